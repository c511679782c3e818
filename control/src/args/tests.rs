use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_command_line_is_sound() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
}

#[test]
fn what_is_understood() {
    for line in [
        "sovereign init",
        "sovereign init other.toml --yes --ssh root@h1:22 --site a.example --use ghost --name a",
        "sovereign check --schema",
        "sovereign check --stack a/stack.toml --json",
        "sovereign secret set a --identity key.txt",
        "sovereign secret list --json",
        "sovereign secret get blog.password",
        "sovereign secret rotate blog.database_password",
        "sovereign secret seal",
        "sovereign secret identity --passphrase",
        "sovereign lock",
        "sovereign lock --update",
        "sovereign lock --update ghost:5-alpine --host h1",
        "sovereign plan --host a --host b --site c --service d --json --exit-code",
        "sovereign deploy --dry-run",
        "sovereign deploy --yes --confirm blog",
        "sovereign rollback --to 7 --host a",
        "sovereign rollback --list",
        "sovereign host add h1 root@192.0.2.1 --datacentre home",
        "sovereign host add h1",
        "sovereign host remove h1 --key",
        "sovereign host prepare h1 h2 --dry-run",
        "sovereign status --watch",
        "sovereign logs blog --json",
        "sovereign logs blog shop -f --since 10m --lines 5",
        "sovereign exec blog --part db -- ls -l",
        "sovereign restart blog",
        "sovereign down blog --purge --confirm blog",
        "sovereign open blog --port 8080",
        "sovereign feed --atom a.xml --ics a.ics",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
    }
}

#[test]
fn what_is_not() {
    for line in [
        "sovereign",
        "sovereign secret",
        "sovereign secret set",
        "sovereign secret set name value",
        "sovereign secret get",
        "sovereign check --schema --json",
        "sovereign rollback --list --to 3",
        "sovereign host prepare",
        "sovereign status --watch --json",
        "sovereign exec blog",
        "sovereign exec blog ls",
        "sovereign down",
        "sovereign feed",
        "sovereign open blog --port 99999",
        "sovereign deploy --check",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn what_commands_have_in_common() {
    let cli = parse("sovereign deploy --stack a/b.toml --identity k --json --yes").unwrap();
    let common = cli.command.common();
    assert_eq!(common.stack, Path::new("a/b.toml"));
    assert_eq!(common.identity, Some(Path::new("k")));
    assert!(common.json && common.yes && common.confirm.is_empty());
    let cli = parse("sovereign down a --purge --confirm a").unwrap();
    assert!(!cli.command.common().yes);
    assert_eq!(cli.command.common().confirm, ["a"]);
}

#[test]
fn an_update_is_of_one_image_or_of_all() {
    let update = |line: &str| match parse(line).map(|cli| cli.command) {
        Ok(Command::Lock(lock)) => lock.update,
        other => panic!("{other:?}"),
    };
    assert_eq!(update("sovereign lock"), None);
    assert_eq!(update("sovereign lock --update"), Some(None));
    assert_eq!(
        update("sovereign lock --update a:1"),
        Some(Some("a:1".to_owned()))
    );
}
