//! An etcd for tests: the few calls of its JSON gateway that we make, and bad days on request. The
//! end-to-end tests have the real one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::gateway::{decode, encode};

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// As etcd does.
    Well,
    /// Takes connections and says nothing.
    Silent,
    /// Answers what no etcd answers.
    Garbage,
    /// Answers more than anybody wants.
    Endless,
    /// Has no leader.
    Leaderless,
    /// Its gateway is turned off.
    NoGateway,
}

/// What several members of one etcd share.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) cluster: String,
    pub(super) revision: i64,
    pub(super) keys: BTreeMap<Vec<u8>, Key>,
    leases: BTreeMap<String, (Duration, Instant)>,
    /// The password of the user, where one is asked for, and the token in force.
    pub(super) user: Option<(String, String)>,
    pub(super) calls: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) value: Vec<u8>,
    pub(super) created: i64,
    pub(super) changed: i64,
    pub(super) lease: String,
}

/// One member; it goes away when dropped.
pub(super) struct Member {
    pub(super) address: SocketAddr,
    pub(super) mood: Arc<Mutex<Mood>>,
    _serving: JoinSet<()>,
}

impl Data {
    pub(super) fn new() -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            cluster: "17".into(),
            revision: 1,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            user: None,
            calls: 0,
        }))
    }

    /// A key as another client writes it.
    pub(super) fn put(&mut self, key: &str, value: &[u8]) {
        self.store(key.as_bytes(), value, "");
    }

    pub(super) fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.keys.get(key.as_bytes()).map(|key| key.value.clone())
    }

    /// What a lease's end takes with it.
    pub(super) fn end_leases(&mut self) {
        for id in std::mem::take(&mut self.leases).into_keys() {
            self.keys.retain(|_, key| key.lease != id);
        }
    }

    fn store(&mut self, name: &[u8], value: &[u8], lease: &str) {
        self.revision += 1;
        let created = self.keys.get(name).map_or(self.revision, |key| key.created);
        let key = Key {
            value: value.into(),
            created,
            changed: self.revision,
            lease: lease.into(),
        };
        self.keys.insert(name.into(), key);
    }

    fn expire(&mut self) {
        let ended = |(ttl, since): &(Duration, Instant)| since.elapsed() > *ttl;
        let over: Vec<String> = self
            .leases
            .iter()
            .filter(|(_, l)| ended(l))
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            self.leases.remove(&id);
            self.keys.retain(|_, key| key.lease != id);
        }
    }

    fn header(&self) -> Value {
        json!({ "cluster_id": self.cluster, "member_id": "1", "revision": self.revision.to_string(), "raft_term": "2" })
    }

    fn answer(&mut self, path: &str, token: Option<&str>, body: &Value) -> (StatusCode, Value) {
        self.calls += 1;
        self.expire();
        if let Some((password, wanted)) = &self.user {
            if path == "/v3/auth/authenticate" {
                return match body["password"] == password.as_str() {
                    true => (StatusCode::OK, json!({ "token": wanted })),
                    false => refused(
                        3,
                        "etcdserver: authentication failed, invalid user ID or password",
                    ),
                };
            }
            match token {
                Some(token) if token == wanted => {}
                Some(_) => return refused(16, "etcdserver: invalid auth token"),
                None => return refused(3, "etcdserver: user name is empty"),
            }
        }
        match path {
            "/v3/kv/range" => (StatusCode::OK, self.range(body)),
            "/v3/kv/put" => self.put_with_lease(body),
            "/v3/kv/txn" => (StatusCode::OK, self.txn(body)),
            "/v3/kv/deleterange" => {
                self.keys.remove(&bytes(&body["key"]));
                self.revision += 1;
                (StatusCode::OK, json!({ "header": self.header() }))
            }
            "/v3/lease/grant" => self.grant(body),
            "/v3/lease/keepalive" => self.beat(body),
            "/v3/lease/revoke" => self.revoke(body),
            _ => (StatusCode::NOT_FOUND, Value::Null),
        }
    }

    fn range(&self, body: &Value) -> Value {
        let (from, to) = (bytes(&body["key"]), bytes(&body["range_end"]));
        let since = number(&body["min_mod_revision"]);
        let mut found: Vec<_> = self
            .keys
            .iter()
            .filter(|(name, key)| match to.is_empty() {
                true => **name == from,
                false => **name >= from && **name < to && key.changed >= since,
            })
            .collect();
        found.sort_by_key(|(_, key)| key.changed);
        let most = match number(&body["limit"]) {
            0 => usize::MAX,
            most => most as usize,
        };
        let (count, more) = (found.len(), found.len() > most);
        found.truncate(most);
        let kvs: Vec<Value> = found
            .into_iter()
            .map(|(name, key)| {
                let value = match body["keys_only"] == true {
                    true => String::new(),
                    false => encode(&key.value),
                };
                json!({ "key": encode(name), "value": value, "mod_revision": key.changed.to_string(), "lease": key.lease })
            })
            .collect();
        json!({ "header": self.header(), "kvs": kvs, "more": more, "count": count.to_string() })
    }

    fn put_with_lease(&mut self, body: &Value) -> (StatusCode, Value) {
        let lease = body["lease"].as_str().unwrap_or_default().to_owned();
        if !lease.is_empty() && !self.leases.contains_key(&lease) {
            return refused(5, "etcdserver: requested lease not found");
        }
        self.store(&bytes(&body["key"]), &bytes(&body["value"]), &lease);
        (StatusCode::OK, json!({ "header": self.header() }))
    }

    fn txn(&mut self, body: &Value) -> Value {
        let compare = &body["compare"][0];
        let there = self.keys.get(&bytes(&compare["key"]));
        let holds = match compare["target"] == "CREATE" {
            true => there.map_or(0, |key| key.created) == number(&compare["create_revision"]),
            false => there.map_or(0, |key| key.changed) == number(&compare["mod_revision"]),
        };
        if !holds {
            let range = self.range(&body["failure"][0]["request_range"]);
            return json!({ "header": self.header(), "responses": [{ "response_range": range }] });
        }
        let put = &body["success"][0]["request_put"];
        let lease = put["lease"].as_str().unwrap_or_default();
        self.store(&bytes(&put["key"]), &bytes(&put["value"]), lease);
        json!({ "header": self.header(), "succeeded": true, "responses": [{ "response_put": {} }] })
    }

    fn grant(&mut self, body: &Value) -> (StatusCode, Value) {
        self.revision += 1;
        let (id, ttl) = (self.revision.to_string(), number(&body["TTL"]));
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
        self.leases.insert(id.clone(), (ttl, Instant::now()));
        (
            StatusCode::OK,
            json!({ "ID": id, "TTL": ttl.as_secs().to_string() }),
        )
    }

    fn beat(&mut self, body: &Value) -> (StatusCode, Value) {
        let id = body["ID"].as_str().unwrap_or_default();
        match self.leases.get_mut(id) {
            Some((ttl, since)) => {
                *since = Instant::now();
                let ttl = ttl.as_secs().to_string();
                (
                    StatusCode::OK,
                    json!({ "result": { "ID": id, "TTL": ttl } }),
                )
            }
            None => (StatusCode::OK, json!({ "result": { "ID": id } })),
        }
    }

    fn revoke(&mut self, body: &Value) -> (StatusCode, Value) {
        let id = body["ID"].as_str().unwrap_or_default();
        if self.leases.remove(id).is_none() {
            return refused(5, "etcdserver: requested lease not found");
        }
        self.keys.retain(|_, key| key.lease != id);
        (StatusCode::OK, json!({ "header": self.header() }))
    }
}

impl Member {
    /// A member on a port of its own.
    pub(super) async fn start(data: &Arc<Mutex<Data>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::on(listener, data)
    }

    /// A member on an address that was free a moment ago.
    pub(super) async fn start_at(address: SocketAddr, data: &Arc<Mutex<Data>>) -> Self {
        Self::on(TcpListener::bind(address).await.expect("the port"), data)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn on(listener: TcpListener, data: &Arc<Mutex<Data>>) -> Self {
        let address = listener.local_addr().expect("an address");
        let mood = Arc::new(Mutex::new(Mood::Well));
        let (data, moods) = (Arc::clone(data), Arc::clone(&mood));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (data, moods) = (Arc::clone(&data), Arc::clone(&moods));
                let service = service_fn(move |request| {
                    serve(request, Arc::clone(&data), Arc::clone(&moods))
                });
                connections.spawn(async move {
                    let served =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    drop(served.await);
                });
            }
        });
        Self {
            address,
            mood,
            _serving: serving,
        }
    }
}

async fn serve(
    request: Request<Incoming>,
    data: Arc<Mutex<Data>>,
    mood: Arc<Mutex<Mood>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let now = *mood.lock();
    let (status, text) = match now {
        Mood::Well => {
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let token = parts.headers.get(header::AUTHORIZATION);
            let token = token.and_then(|token| token.to_str().ok());
            let (status, answer) = data.lock().answer(parts.uri.path(), token, &body);
            (status, answer.to_string())
        }
        Mood::Silent => std::future::pending().await,
        Mood::Garbage => (StatusCode::OK, "<html>welcome</html>".into()),
        Mood::Endless => (StatusCode::OK, " ".repeat(3 << 20)),
        Mood::Leaderless => {
            let (status, answer) = refused(14, "etcdserver: no leader");
            (status, answer.to_string())
        }
        Mood::NoGateway => (StatusCode::NOT_FOUND, "404 page not found\n".into()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    Ok(response)
}

fn refused(code: u32, text: &str) -> (StatusCode, Value) {
    let answer = json!({ "error": text, "message": text, "code": code });
    (StatusCode::BAD_REQUEST, answer)
}

fn bytes(text: &Value) -> Vec<u8> {
    decode(text.as_str().unwrap_or_default()).unwrap_or_default()
}

fn number(text: &Value) -> i64 {
    text.as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}
