//! Ghost on MariaDB, set up as its owner would do it, without a browser.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client, Target, whole};
use crate::lab::{Lab, component};
use crate::mariadb::MariaDb;
use crate::port::free_address;
use crate::process::Process;
use crate::wait::eventually;

/// The first boot makes the tables; a busy machine needs its time.
const BOOT: Duration = Duration::from_secs(120);

/// A blog.
#[derive(Debug)]
pub struct Ghost {
    address: SocketAddr,
    host: String,
    database: SocketAddr,
    database_name: String,
    content: PathBuf,
    process: Mutex<Option<Process>>,
}

/// A member of a blog.
#[derive(Debug, Clone)]
pub struct Member {
    /// Ghost's id.
    pub id: String,
    /// Name and address.
    pub email: String,
}

impl Ghost {
    /// The owner's address.
    pub const OWNER: &str = "owner@example.com";
    /// The owner's password.
    pub const PASSWORD: &str = "a-Sovereign-passphrase-1";

    /// A blog that visitors know as `https://HOST`, booted and with an owner.
    pub async fn start(lab: &Lab, database: &MariaDb, host: &str) -> Self {
        let content = lab.folder("ghost");
        copy_folder(&component("ghost/app/content"), &content);
        let address = free_address();
        let database_name = format!("ghost_{}", address.port());
        database.run(&format!(
            "CREATE DATABASE {database_name} CHARACTER SET utf8mb4"
        ));
        let ghost = Self {
            address,
            host: host.to_owned(),
            database: database.address(),
            database_name,
            content,
            process: Mutex::new(None),
        };
        ghost.boot(lab).await;
        ghost.set_up().await;
        ghost
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address, as an upstream is written.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of Ghost itself, with nothing between: what it says is the truth to compare with.
    pub fn direct(&self) -> Client {
        Client::h1(&Target::plain(self.address, &self.host)).with("x-forwarded-proto", "https")
    }

    /// Starts the process, without waiting for it to serve.
    pub fn spawn(&self, lab: &Lab) {
        let process = Process::start(lab, "ghost", component("ghost/node"), |command| {
            command
                .arg("index.js")
                .current_dir(component("ghost/app"))
                .env("NODE_ENV", "production")
                .env("url", format!("https://{}", self.host))
                .env("server__host", self.address.ip().to_string())
                .env("server__port", self.address.port().to_string())
                .env("database__client", "mysql")
                .env("database__connection__host", self.database.ip().to_string())
                .env(
                    "database__connection__port",
                    self.database.port().to_string(),
                )
                .env("database__connection__user", MariaDb::USER)
                .env("database__connection__password", MariaDb::PASSWORD)
                .env("database__connection__database", &self.database_name)
                .env("paths__contentPath", &self.content)
                .env("logging__transports", "[\"stdout\"]")
                // It asks nobody outside, and mails nobody.
                .env("mail__transport", "stub")
                .env("security__staffDeviceVerification", "false")
                .env("privacy__useGravatar", "false")
                .env("privacy__useUpdateCheck", "false")
                .env("privacy__useRpcPing", "false")
                .env("privacy__useIndexNow", "false");
        });
        *self.slot() = Some(process);
    }

    /// Starts the process and waits until it serves the front page.
    pub async fn boot(&self, lab: &Lab) {
        self.spawn(lab);
        self.serves().await;
    }

    /// Waits until it serves the front page, and gives how long that took.
    pub async fn serves(&self) -> Duration {
        let started = Instant::now();
        eventually("Ghost serves its front page", BOOT, || {
            if let Some(process) = self.slot().as_mut() {
                process.assert_running();
            }
            self.front_page()
        })
        .await;
        started.elapsed()
    }

    /// Asks it to end, and waits for that.
    pub async fn stop(&self) {
        let process = self.slot().take().expect("Ghost runs");
        process.stop(Duration::from_secs(60)).await;
    }

    async fn front_page(&self) -> Result<(), String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.address)
            .await
            .map_err(|error| error.to_string())?;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n",
            self.host
        );
        stream
            .write_all(request.as_bytes())
            .await
            .map_err(|error| error.to_string())?;
        let mut head = [0; 12];
        stream
            .read_exact(&mut head)
            .await
            .map_err(|error| error.to_string())?;
        match &head {
            b"HTTP/1.1 200" => Ok(()),
            other => Err(String::from_utf8_lossy(other).into_owned()),
        }
    }

    async fn set_up(&self) {
        let setup = json!({ "setup": [{
            "name": "Owner", "email": Self::OWNER, "password": Self::PASSWORD, "blogTitle": "A blog that stays up",
        }] });
        self.direct()
            .post_json(
                "/ghost/api/admin/authentication/setup/",
                &[("origin", &self.origin())],
                &setup,
            )
            .await
            .expect(201);
    }

    /// What a browser on the blog sends as `Origin`.
    pub fn origin(&self) -> String {
        format!("https://{}", self.host)
    }

    /// Logs the owner in over any client, and gives the answer with its cookie.
    pub async fn log_in(&self, client: &Client) -> Answer {
        client
            .post_json(
                "/ghost/api/admin/session/",
                &[("origin", &self.origin())],
                &json!({ "username": Self::OWNER, "password": Self::PASSWORD }),
            )
            .await
            .expect(201)
    }

    /// Publishes a post under `slug`, with nothing between. `visibility` is `public` or `members`.
    pub async fn publish(&self, slug: &str, html: &str, visibility: &str) {
        let cookie = self.log_in(&self.direct()).await.cookies();
        self.publish_by(&self.direct(), &cookie, slug, html, visibility)
            .await;
    }

    /// Publishes a post over any client, with the owner's cookie; gives Ghost's answer.
    pub async fn publish_by(
        &self,
        client: &Client,
        cookie: &str,
        slug: &str,
        html: &str,
        visibility: &str,
    ) -> Answer {
        let post = json!({ "posts": [{
            "title": slug, "slug": slug, "html": html, "status": "published", "visibility": visibility,
        }] });
        let path = "/ghost/api/admin/posts/?source=html";
        let fields = [("cookie", cookie), ("origin", &self.origin())];
        client.post_json(path, &fields, &post).await.expect(201)
    }

    /// Makes a member.
    pub async fn add_member(&self, email: &str) -> Member {
        let made = self
            .admin(
                Method::POST,
                "members/",
                Some(json!({ "members": [{ "name": email, "email": email }] })),
            )
            .await;
        Member {
            id: text(&made["members"][0]["id"]),
            email: email.to_owned(),
        }
    }

    /// The path, with its query, that logs `member` in.
    pub async fn sign_in_path(&self, member: &Member) -> String {
        let answer = self
            .admin(
                Method::GET,
                &format!("members/{}/signin_urls/", member.id),
                None,
            )
            .await;
        let url = text(&answer["member_signin_urls"][0]["url"]);
        url.strip_prefix(&self.origin())
            .unwrap_or_else(|| panic!("{url} is not of {}", self.origin()))
            .to_owned()
    }

    /// Uploads a picture, and gives its path.
    pub async fn upload_image(&self, name: &str, png: &[u8]) -> String {
        let cookie = self.log_in(&self.direct()).await.cookies();
        let mut form = format!(
            "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: image/png\r\n\r\n"
        )
        .into_bytes();
        form.extend_from_slice(png);
        form.extend_from_slice(b"\r\n--edge--\r\n");
        let fields = [
            ("cookie", cookie.as_str()),
            ("origin", &self.origin()),
            ("content-type", "multipart/form-data; boundary=edge"),
        ];
        let path = "/ghost/api/admin/images/upload/";
        let answer = self
            .direct()
            .ask(Method::POST, path, &fields, whole(form))
            .await
            .expect(201);
        let url = text(&answer.json()["images"][0]["url"]);
        url.strip_prefix(&self.origin())
            .unwrap_or_else(|| panic!("{url} is not of {}", self.origin()))
            .to_owned()
    }

    /// A request of the owner's to the admin API, with nothing between.
    async fn admin(&self, method: Method, path: &str, json: Option<Value>) -> Value {
        let client = self.direct();
        let cookie = self.log_in(&client).await.cookies();
        let fields = [
            ("cookie", cookie.as_str()),
            ("origin", &self.origin()),
            ("content-type", "application/json"),
        ];
        let body = whole(json.map_or(String::new(), |json| json.to_string()));
        let answer = client
            .ask(method, &format!("/ghost/api/admin/{path}"), &fields, body)
            .await;
        assert!(answer.status.is_success(), "{path}: {answer}");
        answer.json()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a text was expected, not {value}"))
        .to_owned()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder is ours");
    for entry in fs::read_dir(from)
        .expect("the component is there")
        .flatten()
    {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the folder is ours");
        }
    }
}
