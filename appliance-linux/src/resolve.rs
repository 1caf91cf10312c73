//! DNS names of peers, asked for past the tunnel: the questions carry our firewall mark, as IKE does. What the system's own
//! resolver asks would go into a tunnel to everything, and wait there for the peer whose address is asked for.
//!
//! `/etc/hosts` and `/etc/resolv.conf` are read anew for each name. Where the latter names nothing but the stub of
//! systemd-resolved, the servers behind the stub are asked: its own questions do not carry our mark.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hickory_resolver::Hosts;
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, timeout, timeout_at};

use crate::boundary::MARK;

/// Names asked for at once.
const AT_ONCE: usize = 16;
/// Names that wait for their turn.
const QUEUE: usize = 4096;
/// No name takes longer, however many servers and search domains there are.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a server may take to accept a TCP connection, unless the caller says.
const TCP_PATIENCE: Duration = Duration::from_secs(5);

const TOO_LATE: &str = "no name server answered in time";

/// The servers, as every program is told.
const SERVERS: &str = "/etc/resolv.conf";
/// The servers that the stub of systemd-resolved asks.
const BEHIND_THE_STUB: &str = "/run/systemd/resolve/resolv.conf";
/// Addresses of that stub.
const STUB: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54))];

/// What the name servers say: the addresses in the order in which to try them, or why there are none.
pub(crate) type Answer = Result<Vec<IpAddr>, String>;

/// The thread that asks; it ends with it. Each name comes with a question `Q`, which comes back with the answer.
pub(crate) struct Resolver<Q> {
    questions: Sender<(String, Q)>,
}

impl<Q: Send + 'static> Resolver<Q> {
    /// Starts the thread. `tell` is called there, and nowhere else: it may wait for who asks.
    pub(crate) fn start(tell: impl Fn(Q, Answer) + Send + Sync + 'static) -> io::Result<Self> {
        let (questions, queue) = mpsc::channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tell = Arc::new(tell);
        thread::Builder::new().name("resolver".into()).spawn(move || runtime.block_on(serve(queue, tell)))?;
        Ok(Self { questions })
    }

    /// Asks for a name.
    ///
    /// # Errors
    /// The question, at once, when too many wait already.
    pub(crate) fn ask(&self, name: String, question: Q) -> Result<(), Q> {
        self.questions.try_send((name, question)).map_err(|refused| refused.into_inner().1)
    }
}

/// Asks for several names side by side, and waits until each has its answer, for no longer than one may take: for `doctor`.
pub(crate) fn now(names: BTreeSet<String>) -> BTreeMap<String, Answer> {
    let until = Instant::now() + PATIENCE;
    let ask = async {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let asked = names.into_iter().map(|name| {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move {
                let answer = timeout_at(until, async {
                    let _turn = turns.acquire().await;
                    resolve(&name).await
                });
                let answer = answer.await.unwrap_or_else(|_| Err(TOO_LATE.to_owned()));
                (name, answer)
            })
        });
        let mut answers = BTreeMap::new();
        for task in asked.collect::<Vec<_>>() {
            answers.extend(task.await); // it does not panic
        }
        answers
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(ask),
        Err(_) => BTreeMap::new(),
    }
}

async fn patiently(name: &str) -> Answer {
    let answer = timeout(PATIENCE, resolve(name)).await;
    answer.unwrap_or_else(|_| Err(TOO_LATE.to_owned()))
}

async fn serve<Q: Send + 'static>(
    mut queue: Receiver<(String, Q)>,
    tell: Arc<impl Fn(Q, Answer) + Send + Sync + 'static>,
) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    while let Some((name, question)) = queue.recv().await {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let tell = Arc::clone(&tell);
        tokio::spawn(async move {
            tell(question, patiently(&name).await);
            drop(turn);
        });
    }
}

/// The addresses of a name: as it is written, from `/etc/hosts`, or from the name servers.
async fn resolve(name: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = IpAddr::from_str(name) {
        return Ok(vec![address]);
    }
    let known = in_hosts(&Hosts::from_system().unwrap_or_default(), name);
    if !known.is_empty() {
        return Ok(known);
    }
    let (config, options) = servers(Path::new(SERVERS), Path::new(BEHIND_THE_STUB));
    ask(config, options, name).await
}

/// What a file of hosts says of a name.
fn in_hosts(hosts: &Hosts, name: &str) -> Vec<IpAddr> {
    let Ok(name) = Name::from_str_relaxed(name) else { return Vec::new() };
    let found = [RecordType::AAAA, RecordType::A]
        .into_iter()
        .filter_map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)));
    found
        .flat_map(|lookup| lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>())
        .collect()
}

/// Whom to ask, and how. Without a file, or with none that names a server, this machine is asked (resolv.conf(5)).
fn servers(told: &Path, behind_the_stub: &Path) -> (ResolverConfig, ResolverOpts) {
    let read = |path: &Path| parse_resolv_conf(std::fs::read(path).ok()?).ok();
    let (mut config, options) = read(told).unwrap_or_else(|| {
        let here = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
        (ResolverConfig::from_name_servers(vec![here]), ResolverOpts::default())
    });
    if config.name_servers().iter().all(|server| STUB.contains(&server.ip))
        && let Some((behind, _)) = read(behind_the_stub)
    {
        config.name_servers = behind.name_servers;
    }
    (config, options)
}

async fn ask(config: ResolverConfig, options: ResolverOpts, name: &str) -> Result<Vec<IpAddr>, String> {
    let resolver = hickory_resolver::Resolver::builder_with_config(config, PastTheTunnel::default())
        .with_options(options)
        .build()
        .map_err(|error| error.to_string())?;
    let found = resolver.lookup_ip(name).await.map_err(|error| in_words(&error))?;
    let mut addresses = Vec::new();
    for address in found.iter() {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err("no address".to_owned()) } else { Ok(addresses) }
}

fn in_words(error: &NetError) -> String {
    match error {
        error if error.is_nx_domain() => "no such name".to_owned(),
        error if error.is_no_records_found() => "no address".to_owned(),
        NetError::Timeout => TOO_LATE.to_owned(),
        error => error.to_string(),
    }
}

/// Makes sockets whose packets pass by the tunnel.
#[derive(Clone, Default)]
struct PastTheTunnel(TokioRuntimeProvider);

type Promise<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl RuntimeProvider for PastTheTunnel {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> Self::Handle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        from: Option<SocketAddr>,
        patience: Option<Duration>,
    ) -> Promise<Self::Tcp> {
        Box::pin(async move {
            let socket = TcpSocket::from_std_stream(marked(server, Type::STREAM)?.into());
            if let Some(from) = from {
                socket.bind(from)?;
            }
            let connected = timeout(patience.unwrap_or(TCP_PATIENCE), socket.connect(server)).await;
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(AsyncIoTokioAsStd)
        })
    }

    fn bind_udp(&self, from: SocketAddr, _server: SocketAddr) -> Promise<Self::Udp> {
        Box::pin(async move {
            let socket = marked(from, Type::DGRAM)?;
            socket.bind(&from.into())?;
            UdpSocket::from_std(socket.into())
        })
    }
}

/// A socket of the family of `address` with our mark.
fn marked(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind.cloexec().nonblocking(), None)?;
    socket.set_mark(MARK)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::namespace::in_a_network_of_its_own;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// A name server that answers each question for an address, and calls every other name unknown.
    fn server(known: &'static str) -> (SocketAddr, std::sync::mpsc::Receiver<(String, u16)>) {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = socket.local_addr().unwrap();
        let (asked, questions) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let question = &buffer[..length];
                let mut end = 12;
                let mut name = String::new();
                while question[end] != 0 {
                    let next = end + 1 + usize::from(question[end]);
                    name += &String::from_utf8_lossy(&question[end + 1..next]).to_lowercase();
                    name.push('.');
                    end = next;
                }
                let kind = u16::from_be_bytes([question[end + 1], question[end + 2]]);
                let data = match kind {
                    1 => Ipv4Addr::new(192, 0, 2, 9).octets().to_vec(),
                    _ => "2001:db8::9".parse::<Ipv6Addr>().unwrap().octets().to_vec(),
                };
                let found = name == known;
                let mut reply = question[..2].to_vec();
                reply.extend([0x81, if found { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(found), 0, 0, 0, 0]);
                reply.extend(&question[12..end + 5]);
                if found {
                    reply.extend([0xc0, 12, 0, u8::try_from(kind).unwrap(), 0, 1, 0, 0, 0, 60, 0]);
                    reply.push(u8::try_from(data.len()).unwrap());
                    reply.extend(data);
                }
                // First: whoever has the answer may look at once.
                if asked.send((name, kind)).is_err() {
                    return;
                }
                socket.send_to(&reply, from).unwrap();
            }
        });
        (at, questions)
    }

    fn config_for(text: &str, at: SocketAddr) -> (ResolverConfig, ResolverOpts) {
        let (mut config, options) = parse_resolv_conf(text).unwrap();
        for connection in config.name_servers.iter_mut().flat_map(|server| &mut server.connections) {
            connection.port = at.port();
        }
        (config, options)
    }

    #[test]
    fn f_12_every_socket_that_asks_carries_our_mark() {
        in_a_network_of_its_own(|| {
            run(async {
                let provider = PastTheTunnel::default();
                let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let udp = provider.bind_udp(here, here).await.unwrap();
                assert_eq!(socket2::SockRef::from(&udp).mark().unwrap(), MARK);
                let tcp = provider.connect_tcp(listener.local_addr().unwrap(), None, None).await.unwrap();
                assert_eq!(socket2::SockRef::from(&tcp.0).mark().unwrap(), MARK);
            });
        });
    }

    #[test]
    fn f_12_a_name_is_asked_for_in_both_families_and_in_the_search_domains() {
        in_a_network_of_its_own(|| {
            let (at, questions) = server("gw.lab.example.");
            let found = |name: &'static str| {
                let (config, options) = config_for("nameserver 127.0.0.1\nsearch lab.example\noptions timeout:1\n", at);
                run(ask(config, options, name))
            };
            let both: Vec<IpAddr> = vec!["2001:db8::9".parse().unwrap(), "192.0.2.9".parse().unwrap()];
            assert_eq!(found("gw.lab.example"), Ok(both.clone()));
            let mut kinds: Vec<u16> = questions.try_iter().map(|(_, kind)| kind).collect();
            kinds.sort_unstable();
            assert_eq!(kinds, [1, 28]);
            assert_eq!(found("gw"), Ok(both));
            assert_eq!(found("unknown"), Err("no such name".to_owned()));
        });
    }

    #[test]
    fn f_12_the_servers_behind_the_stub_are_asked_and_not_the_stub() {
        let folder = std::env::temp_dir().join(format!("portcullis-resolve-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let behind = file("behind", "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch behind.example\n");
        let named = |told: &Path, behind: &Path| {
            let (config, options) = servers(told, behind);
            let ips: Vec<String> = config.name_servers().iter().map(|server| server.ip.to_string()).collect();
            let search: Vec<String> = config.search().iter().map(Name::to_string).collect();
            (ips, search, options.ndots)
        };
        let stub = file("stub", "nameserver 127.0.0.53\noptions edns0 ndots:2\nsearch lab.example\n");
        let (ips, search, ndots) = named(&stub, &behind);
        assert_eq!((ips, ndots), (vec!["192.0.2.53".to_owned(), "2001:db8::53".to_owned()], 2));
        assert!(search[0].starts_with("lab.example"), "{search:?}");
        let missing = folder.join("missing");
        assert_eq!(named(&stub, &missing).0, ["127.0.0.53"], "better than nobody");
        let own = file("own", "nameserver 198.51.100.53\n");
        assert_eq!(named(&own, &behind).0, ["198.51.100.53"]);
        assert_eq!(named(&missing, &missing).0, ["127.0.0.1"]);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_the_file_of_hosts_says_is_not_asked_for() {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(&b"192.0.2.7 gw gw.lab\n2001:db8::7 gw.lab # both\n"[..]).unwrap();
        let both: [IpAddr; 2] = ["2001:db8::7".parse().unwrap(), "192.0.2.7".parse().unwrap()];
        assert_eq!(in_hosts(&hosts, "GW.lab"), both);
        assert_eq!(in_hosts(&hosts, "gw"), both[1..]);
        assert!(in_hosts(&hosts, "other").is_empty());
    }

    #[test]
    fn every_question_is_answered_in_some_order() {
        let (sender, answers) = std::sync::mpsc::channel();
        let resolver = Resolver::start(move |number, answer: Answer| {
            sender.send((number, answer.unwrap()[0])).unwrap();
        })
        .unwrap();
        for number in 0..50_u8 {
            resolver.ask(format!("192.0.2.{number}"), number).unwrap();
        }
        let mut answers: Vec<_> = answers.iter().take(50).collect();
        answers.sort_unstable();
        assert!(answers.into_iter().eq((0..50).map(|number| (number, IpAddr::from([192, 0, 2, number])))));
    }

    #[test]
    fn f_34_who_asks_for_too_many_names_is_refused_and_never_waits_for_itself() {
        // As when the inbox of who asks is full, which only who asks can empty.
        let (sender, inbox) = std::sync::mpsc::sync_channel(0);
        let here = thread::current().id();
        let resolver = Resolver::start(move |number: usize, _: Answer| {
            assert_ne!(thread::current().id(), here);
            let _ = sender.send(number);
        })
        .unwrap();
        let asked = QUEUE + 1000;
        let refused = (0..asked).filter(|number| resolver.ask("192.0.2.1".to_owned(), *number).is_err()).count();
        assert!(refused > 0 && refused <= 1000, "{refused}");
        for answered in refused..asked {
            let answer = inbox.recv_timeout(Duration::from_secs(5));
            assert!(answer.is_ok(), "{} of {asked} questions have neither answer nor refusal", asked - answered);
        }
    }

    #[test]
    fn f_34_names_of_doctor_are_asked_for_side_by_side_and_none_is_left_without_an_answer() {
        let names: BTreeSet<String> = (0..50).map(|number| format!("192.0.2.{number}")).collect();
        let answers = now(names.clone());
        assert!(answers.keys().eq(&names) && answers.values().all(Result::is_ok), "{answers:?}");
    }
}
