use age::secrecy::ExposeSecret as _;

use super::*;

#[test]
fn results_and_remarks_go_apart() {
    let printer = Printer::caught(&[]);
    printer.print("result\n").unwrap();
    printer.say("remark");
    printer.warn("beware");
    printer.error("it failed");
    printer.hint("do this");
    let (out, err) = printer.take();
    assert_eq!(out, "result\n");
    assert_eq!(
        err,
        "remark\nwarning: beware\nerror: it failed\nhint: do this\n"
    );
}

#[test]
fn what_steers_a_terminal_is_taken_out() {
    let printer = Printer::caught(&[]);
    printer.say("a\x1b[2Jb\tc\r\nd\u{202e}e");
    assert_eq!(printer.take().1, "a\u{fffd}[2Jb\tc\u{fffd}\nde\n");
    let mut table = Table::plain();
    table.row(["a\x1b[2J\nb".into()]);
    assert_eq!(table.render(Look::PLAIN), "a [2J b\n");
}

#[test]
fn tables_are_aligned_and_cut() {
    let mut table = Table::headed(&["NAME", ">SIZE", "STATE"]);
    table.row(["a".into(), "10".into(), Cell::toned("up", Tone::Good)]);
    table.row([
        "a long name of forty characters or there".into(),
        "9".into(),
        "down".into(),
    ]);
    let whole = table.render(Look::PLAIN);
    assert!(
        whole
            .lines()
            .any(|line| line == format!("{:40}    10  up", "a")),
        "{whole}"
    );
    let narrow = table.render(Look {
        width: Some(40),
        colour: false,
    });
    assert!(
        narrow.lines().all(|line| line.chars().count() <= 40),
        "{narrow}"
    );
    let colour = table.render(Look {
        width: None,
        colour: true,
    });
    assert!(colour.contains("\x1b[32mup\x1b[0m"), "{colour}");
}

#[test]
fn what_no_table_fits_is_a_list() {
    let mut table = Table::headed(&["HOST", ">FREE", "ENGINE", "PROXY", "DEPLOYED"]);
    let cells = [
        "h1",
        "10 GiB",
        "Docker 28.2.2, Compose 2.26.1",
        "-",
        "never",
    ];
    table.row(cells.map(Cell::from));
    table.row(["h2".into(), Cell::toned("unreachable", Tone::Bad)]);
    let look = Look {
        width: Some(32),
        colour: false,
    };
    assert_eq!(
        table.render(look),
        "h1\n  free      10 GiB\n  engine    Docker 28.2.2, Comp\u{2026}\n  proxy     -\n  deployed  never\n\
         h2\n  free      unreachable\n"
    );
}

#[tokio::test]
async fn questions_are_answered() {
    let printer = Printer::caught(&["y", "no", "blog", "shop", "", "", "b", "hush"]);
    assert!(printer.confirm("Go on?", "--yes").await.is_ok());
    assert!(matches!(
        printer.confirm("Go on?", "--yes").await,
        Err(Unasked::No)
    ));
    assert!(printer.confirm_name("All gone.", "blog", "").await.is_ok());
    let other = printer.confirm_name("All gone.", "blog", "").await;
    assert!(matches!(other, Err(Unasked::OtherName { .. })));
    assert_eq!(printer.ask("Name?", Some("a"), "").await.unwrap(), "a");
    assert_eq!(printer.ask("Name?", None, "").await.unwrap(), "b");
    let secret = printer.ask_secret("Passphrase: ", "").await.unwrap();
    assert_eq!(secret.expose_secret(), "hush");
    assert!(!printer.take().1.contains("hush"));
}

#[tokio::test]
async fn where_nobody_can_be_asked_the_way_out_is_named() {
    let printer = Printer::caught(&[]);
    let error = printer
        .confirm("Deploy this?", "--yes goes on without asking")
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no terminal to ask at: Deploy this?"
    );
    assert_eq!(error.hint().unwrap(), "--yes goes on without asking");
}
