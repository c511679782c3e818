//! One Ghost on one MariaDB for every session that needs a blog: its first boot takes its time.

use sovereign_tests::{Ghost, Lab, MariaDb, Proxy};
use tokio::sync::OnceCell;

/// A blog with something in it.
pub(crate) struct Blog {
    pub(crate) lab: Lab,
    pub(crate) ghost: Ghost,
    /// The path of a picture that was uploaded.
    pub(crate) picture: String,
    _database: MariaDb,
}

/// What visitors call it.
pub(crate) const HOST: &str = "blog.test";
/// What only members can read.
pub(crate) const SECRET: &str = "only members read this line";
/// How many public posts there are, at `/post-0/` and so on.
pub(crate) const POSTS: usize = 8;

/// The blog, made by whoever asks first.
pub(crate) async fn blog() -> &'static Blog {
    static BLOG: OnceCell<Blog> = OnceCell::const_new();
    BLOG.get_or_init(|| async {
        let lab = Lab::standing();
        let database = MariaDb::start(&lab).await;
        let ghost = Ghost::start(&lab, &database, HOST).await;
        for number in 0..POSTS {
            let html = format!("<p>This is post number {number}.</p>");
            ghost
                .publish(&format!("post-{number}"), &html, "public")
                .await;
        }
        let html = format!("<p>Everyone reads this.</p><!--members-only--><p>{SECRET}</p>");
        ghost.publish("for-members", &html, "members").await;
        let picture = ghost.upload_image("dot.png", PNG).await;
        Blog {
            lab,
            ghost,
            picture,
            _database: database,
        }
    })
    .await
}

/// A proxy in front of the blog; `more` is added to its site.
pub(crate) async fn front(lab: &Lab, blog: &Blog, more: &str) -> Proxy {
    let more = format!("preset = \"ghost\"\n{more}");
    let site = sovereign_tests::proxy::site(HOST, &blog.ghost.url(), &more);
    Proxy::start(lab, &site).await
}

/// A picture of 2 by 2 dots, so that nothing has to be scaled.
pub(crate) const PNG: &[u8] = include_bytes!("dot.png");
