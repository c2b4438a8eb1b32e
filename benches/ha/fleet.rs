//! A fleet of agents played by one thread of this process: each listens on a loopback port of its own and speaks the protocol
//! of [`coordinatool::ha::protocol`], with TLS or without. Resources are entries in a table, so that all work that is measured
//! is the manager's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use coordinatool::ha::ids::{AgentRun, BootId, Epoch, HostId, ManagerId, ManagerRun, ResourceId};
use coordinatool::ha::ocf::Outcome;
use coordinatool::ha::protocol::frame::{Decoder, encode};
use coordinatool::ha::protocol::{
    Action, Finished, FromAgent, Hello, Isolation, ToAgent, Unfinished, VERSION, Welcome,
};
use coordinatool::tls::Endpoint;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// What the fleet saw, for the judge and for the figures.
#[derive(Debug)]
pub struct Seen {
    beginning: Instant,
    /// Monitors and probes answered.
    pub looks: AtomicU64,
    /// Heartbeats sent.
    pub heartbeats: AtomicU64,
    /// Starts carried out.
    pub starts: AtomicU64,
    /// Resources that were active on two hosts at once: must stay 0.
    pub doubles: AtomicU64,
    watch: AtomicBool,
    arrivals: Mutex<Vec<u64>>,
    active: Mutex<BTreeMap<ResourceId, BTreeSet<HostId>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    /// Notes from now on when monitors and probes arrive.
    pub fn watch_arrivals(&self) {
        locked(&self.arrivals).clear();
        self.watch.store(true, Ordering::Relaxed);
    }

    /// When they arrived since then, in microseconds since the fleet's beginning.
    pub fn arrivals(&self) -> Vec<u64> {
        self.watch.store(false, Ordering::Relaxed);
        std::mem::take(&mut *locked(&self.arrivals))
    }

    /// How many resources are active on exactly one host.
    pub fn active(&self) -> usize {
        locked(&self.active).values().filter(|hosts| hosts.len() == 1).count()
    }

    fn lose(&self, host: &HostId) {
        locked(&self.active).values_mut().for_each(|hosts| {
            hosts.remove(host);
        });
    }

    fn execute(&self, host: &HostId, resource: &ResourceId, action: Action) -> Outcome {
        let mut active = locked(&self.active);
        let hosts = active.entry(resource.clone()).or_default();
        match action {
            Action::Start => {
                hosts.insert(host.clone());
                if hosts.len() > 1 {
                    self.doubles.fetch_add(1, Ordering::Relaxed);
                }
                self.starts.fetch_add(1, Ordering::Relaxed);
                Outcome::Exited(0)
            }
            Action::Stop => {
                hosts.remove(host);
                Outcome::Exited(0)
            }
            Action::Probe | Action::Monitor { .. } => {
                self.looks.fetch_add(1, Ordering::Relaxed);
                if self.watch.load(Ordering::Relaxed) {
                    let at = u64::try_from(self.beginning.elapsed().as_micros()).unwrap_or(u64::MAX);
                    locked(&self.arrivals).push(at);
                }
                Outcome::Exited(if hosts.contains(host) { 0 } else { 7 })
            }
        }
    }
}

/// The agents. They go when this is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// Where each agent listens.
    pub addresses: Vec<SocketAddr>,
    /// What they saw.
    pub seen: Arc<Seen>,
    kills: Option<mpsc::UnboundedSender<usize>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The name of the agent with a number.
pub fn name(number: usize) -> String {
    format!("h{number:04}")
}

impl Fleet {
    /// Starts this many agents.
    pub fn start(hosts: usize, endpoint: Option<Endpoint>) -> Self {
        let seen = Arc::new(Seen {
            beginning: Instant::now(),
            looks: AtomicU64::new(0),
            heartbeats: AtomicU64::new(0),
            starts: AtomicU64::new(0),
            doubles: AtomicU64::new(0),
            watch: AtomicBool::new(false),
            arrivals: Mutex::default(),
            active: Mutex::default(),
        });
        let listeners: Vec<_> =
            (0..hosts).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free")).collect();
        let addresses = listeners.iter().map(|one| one.local_addr().expect("it is bound")).collect();
        let (kills, killed) = mpsc::unbounded_channel();
        let shared = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime.expect("a runtime"), run(listeners, endpoint, shared, killed));
        });
        Self { addresses, seen, kills: Some(kills), thread: Some(thread) }
    }

    /// A host loses its power: its connections are closed, what was active on it is gone, and its port refuses.
    pub fn kill(&self, host: usize) {
        if let Some(kills) = &self.kills {
            let _ = kills.send(host);
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.kills = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Agent {
    host: HostId,
    run: AgentRun,
    boot: BootId,
    seen: Arc<Seen>,
    endpoint: Option<Endpoint>,
    dead: watch::Sender<bool>,
}

async fn run(
    listeners: Vec<std::net::TcpListener>,
    endpoint: Option<Endpoint>,
    seen: Arc<Seen>,
    mut killed: mpsc::UnboundedReceiver<usize>,
) {
    let mut agents = Vec::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let listener = TcpListener::from_std(listener).expect("a listener can be watched");
        let agent = Rc::new(Agent {
            host: name(number).into(),
            run: AgentRun(number as u64 + 1),
            boot: format!("boot-{number}").into(),
            seen: Arc::clone(&seen),
            endpoint: endpoint.clone(),
            dead: watch::Sender::new(false),
        });
        agents.push(Rc::clone(&agent));
        spawn_local(async move {
            let mut dead = agent.dead.subscribe();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        spawn_local(serve(stream, Rc::clone(&agent)));
                    },
                    _ = dead.wait_for(|dead| *dead) => return,
                }
            }
        });
    }
    while let Some(host) = killed.recv().await {
        agents[host].dead.send_replace(true);
        seen.lose(&agents[host].host);
    }
}

/// One connection of a manager.
async fn serve(stream: TcpStream, agent: Rc<Agent>) {
    let _ = stream.set_nodelay(true);
    let mut dead = agent.dead.subscribe();
    let talking = async {
        let stream: Box<dyn Stream> = match &agent.endpoint {
            None => Box::new(stream),
            Some(endpoint) => match endpoint.accept(stream).await {
                Ok((stream, _)) => Box::new(stream),
                Err(error) => return eprintln!("handshake: {error}"),
            },
        };
        let _ = Conversation::new(&agent).talk(stream).await;
    };
    tokio::select! {
        () = talking => {}
        _ = dead.wait_for(|dead| *dead) => {}
    }
}

struct Conversation<'a> {
    agent: &'a Agent,
    heartbeat: u64,
    sealed: Epoch,
    manager: Option<(ManagerId, ManagerRun)>,
    beat: Option<tokio::time::Interval>,
}

impl<'a> Conversation<'a> {
    fn new(agent: &'a Agent) -> Self {
        Self { agent, heartbeat: 0, sealed: Epoch(0), manager: None, beat: None }
    }

    async fn talk(mut self, mut stream: Box<dyn Stream>) -> std::io::Result<()> {
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let mut answers = Vec::new();
            tokio::select! {
                read = stream.read(&mut buffer) => match read? {
                    0 => return Ok(()),
                    size => decoder.push(&buffer[..size]),
                },
                () = tick(&mut self.beat) => {
                    self.heartbeat += 1;
                    self.agent.seen.heartbeats.fetch_add(1, Ordering::Relaxed);
                    answers.push(FromAgent::Heartbeat { number: self.heartbeat });
                }
            }
            while let Some(message) = decoder.pop().map_err(std::io::Error::other)? {
                answers.extend(self.answer(message));
            }
            let frames = answers.iter().map(encode).collect::<Result<Vec<_>, _>>();
            let bytes = frames.map_err(std::io::Error::other)?.concat();
            if !bytes.is_empty() {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
            }
        }
    }

    fn answer(&mut self, message: ToAgent) -> Option<FromAgent> {
        match message {
            ToAgent::Hello(hello) => Some(self.welcome(&hello)),
            ToAgent::Seal(seal) => {
                self.sealed = seal.epoch;
                Some(FromAgent::Sealed { epoch: seal.epoch, unfinished: Vec::<Unfinished>::new() })
            }
            ToAgent::Order(order) => {
                let resource = order.operation.resource.id;
                let action = order.operation.action;
                let outcome = self.agent.seen.execute(&self.agent.host, &resource, action);
                Some(FromAgent::Finished(Finished {
                    order: order.id,
                    resource,
                    action,
                    outcome,
                    unfinished: false,
                    reason: String::new(),
                    took_ms: 1,
                    advised_interval_ms: None,
                }))
            }
            ToAgent::Acknowledge { .. } | ToAgent::Forget { .. } | ToAgent::Abandon { .. } => None,
        }
    }

    fn welcome(&mut self, hello: &Hello) -> FromAgent {
        self.beat = Some(tokio::time::interval(Duration::from_millis(hello.heartbeat_ms.max(1))));
        let before = self.manager.replace((hello.manager, hello.run));
        FromAgent::Welcome(Welcome {
            version: VERSION,
            program: "fleet".into(),
            host: self.agent.host.clone(),
            boot: self.agent.boot.clone(),
            agent: self.agent.run,
            sealed: self.sealed,
            obeys: before.map(|(id, _)| id),
            sealed_by: before.map(|(_, run)| run),
            system_uuid: None,
            isolation: Isolation::Cgroup,
            watchdog_ms: None,
        })
    }
}

async fn tick(beat: &mut Option<tokio::time::Interval>) {
    match beat {
        Some(beat) => {
            beat.tick().await;
        }
        None => std::future::pending().await,
    }
}
