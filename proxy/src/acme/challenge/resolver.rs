//! Questions to DNS servers: the resolver's, for where a name leads, and a zone's own, for what they
//! answer at this moment. Each is bounded; nothing is kept, since what is asked for has just changed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The system names no resolver.
    #[error("the system names no DNS server; name one with `certificates.resolver`")]
    NoServer,
    /// The system's resolver says so.
    #[error("the system cannot resolve it: {0}")]
    System(#[source] io::Error),
    /// The server cannot be reached.
    #[error("the DNS server {0} cannot be asked: {1}")]
    Unreachable(SocketAddr, #[source] io::Error),
    /// The server does not answer.
    #[error("the DNS server {0} does not answer")]
    Silent(SocketAddr),
    /// The server says that it cannot, or will not.
    #[error("the DNS server {0} says {1}")]
    Refused(SocketAddr, ResponseCode),
    /// It answered with something else.
    #[error("the DNS server {0} gave an answer that cannot be read")]
    Malformed(SocketAddr),
}

/// Who is asked where names lead.
#[derive(Debug, Clone, Copy)]
pub struct Resolver {
    server: Option<SocketAddr>,
}

impl Resolver {
    /// `None`: the system's. Its file of hosts is not asked: no authority sees that.
    pub fn new(server: Option<SocketAddr>) -> Self {
        Self { server }
    }

    /// The addresses of a host, IPv6 first, as authorities try them; none where the name does not exist.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, AskError> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        let mut found = match self.server {
            None => system(host).await?,
            Some(server) => {
                let Ok(name) = fqdn(host) else {
                    return Ok(Vec::new());
                };
                let (v6, v4) = tokio::join!(
                    ask(server, &name, RecordType::AAAA, true),
                    ask(server, &name, RecordType::A, true)
                );
                let (v6, v4) = match (v6, v4) {
                    (Err(error), Err(_)) => return Err(error),
                    (v6, v4) => (v6.ok(), v4.ok()),
                };
                let answers = v6.into_iter().chain(v4).flat_map(|answer| answer.answers);
                answers.filter_map(|record| record.data.ip_addr()).collect()
            }
        };
        found.sort_by_key(|ip| ip.is_ipv4());
        found.dedup();
        Ok(found)
    }

    /// A question to the resolver: the first of the system's that answers.
    pub async fn ask(&self, name: &Name, kind: RecordType) -> Result<Message, AskError> {
        let servers = match self.server {
            Some(server) => vec![server],
            None => system_servers().await,
        };
        let mut last = AskError::NoServer;
        for server in servers {
            match ask(server, name, kind, true).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// A question to one server. `recurse`: it is to find out, and not to say only what it knows itself.
pub async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    recurse: bool,
) -> Result<Message, AskError> {
    let mut question = Message::query();
    question.metadata.recursion_desired = recurse;
    question.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    question.set_edns(edns);
    let bytes = question.to_vec().map_err(|_| AskError::Malformed(server))?;
    let mut answer = over_udp(server, &question, &bytes).await?;
    if answer.metadata.truncation {
        let whole = timeout(TCP, over_tcp(server, &bytes)).await;
        let whole = whole.map_err(|_| AskError::Silent(server))?;
        let whole = whole.map_err(|error| AskError::Unreachable(server, error))?;
        answer = parse(&question, &whole).ok_or(AskError::Malformed(server))?;
    }
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
        code => Err(AskError::Refused(server, code)),
    }
}

/// A message and its answer over one TCP connection. The caller bounds the time.
pub async fn over_tcp(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// A host as a name that ends at the root.
pub fn fqdn(host: &str) -> Result<Name, hickory_proto::ProtoError> {
    let mut name = Name::from_ascii(host)?;
    name.set_fqdn(true);
    Ok(name)
}

/// What TXT records of an answer say about `name`, each as one text.
pub fn texts(answer: &Message, name: &Name) -> Vec<String> {
    let of_name = answer.answers.iter().filter(|record| record.name == *name);
    of_name
        .filter_map(|record| match &record.data {
            RData::TXT(text) => Some(text.txt_data.concat()),
            _ => None,
        })
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .collect()
}

/// A datagram lost is sent again; anything that is no answer to this question is passed over.
async fn over_udp(
    server: SocketAddr,
    question: &Message,
    bytes: &[u8],
) -> Result<Message, AskError> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let unreachable = |error| AskError::Unreachable(server, error);
    let socket = UdpSocket::bind((any, 0)).await.map_err(unreachable)?;
    socket.connect(server).await.map_err(unreachable)?;
    let mut buffer = vec![0; 4096];
    for _ in 0..TRIES {
        socket.send(bytes).await.map_err(unreachable)?;
        let answer = async {
            loop {
                let read = socket.recv(&mut buffer).await?;
                if let Some(answer) = parse(question, &buffer[..read]) {
                    return io::Result::Ok(answer);
                }
            }
        };
        if let Ok(answer) = timeout(UDP, answer).await {
            return answer.map_err(unreachable);
        }
    }
    Err(AskError::Silent(server))
}

/// An answer, if it is one to this question.
fn parse(question: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let fits = answer.metadata.id == question.metadata.id && answer.queries == question.queries;
    fits.then_some(answer)
}

async fn system(host: &str) -> Result<Vec<IpAddr>, AskError> {
    let late = |_| AskError::System(io::ErrorKind::TimedOut.into());
    // The dot keeps the system from trying the host below its own domains, and from its file of hosts.
    let host = format!("{}.", host.trim_end_matches('.'));
    let found = timeout(SYSTEM, tokio::net::lookup_host((host, 0))).await;
    let found = found.map_err(late)?.map_err(AskError::System)?;
    Ok(found.map(|address| address.ip()).collect())
}

/// The first servers that the system's own resolver would ask.
async fn system_servers() -> Vec<SocketAddr> {
    let Ok(text) = tokio::fs::read_to_string("/etc/resolv.conf").await else {
        return Vec::new();
    };
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|address| address.trim().parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, 53))
        .take(3)
        .collect()
}

/// What a server may put into one datagram: fits every network (DNS flag day 2020).
const PAYLOAD: u16 = 1232;
const TRIES: usize = 2;
const UDP: Duration = Duration::from_secs(2);
const TCP: Duration = Duration::from_secs(5);
const SYSTEM: Duration = Duration::from_secs(6);
