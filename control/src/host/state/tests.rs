use super::*;

#[test]
fn what_find_prints() {
    let found = entries(b"d services\0d services/blog\0d services/blog/0123456789ab\0f services/blog/current\0f a b\0");
    let paths: Vec<_> = found
        .iter()
        .map(|entry| (entry.folder, entry.path.as_str()))
        .collect();
    let folders = [
        (true, "services"),
        (true, "services/blog"),
        (true, "services/blog/0123456789ab"),
    ];
    assert_eq!(
        paths,
        [
            &folders[..],
            &[(false, "services/blog/current"), (false, "a b")]
        ]
        .concat()
    );
}

#[test]
fn a_current_that_cannot_be_read_is_not_there() {
    let file = crate::desired::File {
        mode: 0o600,
        content: b"{\"revi".to_vec(),
        secret: false,
    };
    let files: Files = [("services/blog/current".to_owned(), file)].into();
    let lying = lying(
        &entries(b"d services/blog\0f services/blog/current\0"),
        &files,
    );
    assert_eq!(lying.services["blog"], LyingService::default());
}

#[test]
fn nothing_of_the_proxys_own_goes() {
    let entries = entries(b"d proxy/state\0d proxy/run\0d proxy/bin\0f proxy/current\0f proxy/bin/sovereign-proxy-000000000000\0d proxy/0123456789ab\0f lock\0");
    assert_eq!(
        going(&Lying::default(), &entries),
        [
            "proxy/bin/sovereign-proxy-000000000000",
            "proxy/0123456789ab"
        ]
    );
}

#[test]
fn what_df_prints() {
    assert_eq!(
        disk("    1B-blocks        Avail\n105089261568 61221842944\n"),
        Some(Disk {
            size: 105_089_261_568,
            free: 61_221_842_944
        })
    );
    assert_eq!(disk("df: x: No such file"), None);
}
