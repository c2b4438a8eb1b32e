//! The loop around [`crate::ha::agent::Agent`]: events in, effects out, nothing that blocks.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, mpsc};

use super::leftovers::Wanted;
use super::runner::Runner;
use super::watchdog::Watchdog;
use crate::ha::agent::{Agent, Effect, Effects, Event, IntentRecord};
use crate::ha::ids::{LinkId, OrderId};
use crate::ha::protocol::{FromAgent, ToAgent, frame};
use crate::system::clock::Clock;
use crate::time::{Mono, Now};

/// What happens to connections.
#[derive(Debug)]
pub enum Input {
    /// A manager connected.
    Connected {
        /// Its number.
        link: LinkId,
        /// Frames for it; dropped to close the connection.
        outgoing: mpsc::Sender<Vec<u8>>,
        /// Notified when nothing of it is to be heard any more.
        closed: Rc<Notify>,
    },
    /// A manager said something.
    Received {
        /// Which.
        link: LinkId,
        /// What.
        message: ToAgent,
    },
    /// A connection is gone.
    Disconnected {
        /// Which.
        link: LinkId,
    },
}

/// Carries out what the machine says.
pub struct Shell {
    agent: Agent,
    clock: Clock,
    links: HashMap<LinkId, (mpsc::Sender<Vec<u8>>, Rc<Notify>)>,
    /// Connections that could not take any more: to be told after the present event.
    lost: Vec<LinkId>,
    runner: Rc<Runner>,
    events: UnboundedSender<Event>,
    leftovers: UnboundedSender<(OrderId, Wanted)>,
    intents: std::sync::mpsc::Sender<IntentRecord>,
    watchdog: Option<Watchdog>,
}

/// Where a shell sends what it has others do.
pub struct Outputs {
    /// Runs operations.
    pub runner: Rc<Runner>,
    /// Back to the loop.
    pub events: UnboundedSender<Event>,
    /// Looks after leftovers.
    pub leftovers: UnboundedSender<(OrderId, Wanted)>,
    /// Stores intents.
    pub intents: std::sync::mpsc::Sender<IntentRecord>,
    /// Fed, if there is one.
    pub watchdog: Option<Watchdog>,
}

impl Shell {
    /// Around a machine that learns first what was before it.
    pub fn new(agent: Agent, outputs: Outputs, records: Vec<IntentRecord>, alive: Vec<OrderId>) -> Self {
        let Outputs { runner, events, leftovers, intents, watchdog } = outputs;
        let (links, lost) = (HashMap::new(), Vec::new());
        let clock = Clock::new();
        let mut shell = Self { agent, clock, links, lost, runner, events, leftovers, intents, watchdog };
        shell.handle(Event::Recovered { records, alive });
        shell
    }

    /// Runs until it is told to stop. Whatever it has started goes on.
    pub async fn run(
        &mut self,
        mut messages: Receiver<Input>,
        mut events: UnboundedReceiver<Event>,
        stop: impl Future<Output = &'static str>,
    ) {
        tokio::pin!(stop);
        loop {
            let deadline = self.deadline();
            let wait = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                signal = &mut stop => {
                    tracing::info!("got {signal}, exiting; what runs goes on");
                    return;
                }
                () = wait => self.handle(Event::Tick),
                Some(event) = events.recv() => self.handle(event),
                Some(input) = messages.recv() => self.take(input),
            }
        }
    }

    fn deadline(&self) -> Option<std::time::Instant> {
        let watchdog = self.watchdog.as_ref().map_or(Mono::MAX, Watchdog::next);
        let at = self.agent.next_deadline().min(watchdog);
        (at != Mono::MAX).then(|| self.clock.instant(at)).flatten()
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Connected { link, outgoing, closed } => {
                self.links.insert(link, (outgoing, closed));
                self.handle(Event::Connected { link });
            }
            Input::Received { link, message } => {
                // Nothing is heard any more of a connection that is to be closed.
                if self.links.contains_key(&link) {
                    self.handle(Event::Received { link, message });
                }
            }
            Input::Disconnected { link } => {
                if self.links.remove(&link).is_some() {
                    self.handle(Event::Disconnected { link });
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.clock.now();
        let mut effects = Effects::new();
        self.agent.handle(now, event, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(now, effect);
        }
        while let Some(link) = self.lost.pop() {
            self.agent.handle(now, Event::Disconnected { link }, &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(now, effect);
            }
        }
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.tick(now);
        }
    }

    fn carry_out(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Store(record) => {
                // The thread only ends with the process.
                let _ = self.intents.send(record);
            }
            Effect::Send { link, message } => self.send(link, &message),
            Effect::Close { link } => self.close(link),
            Effect::Run { order, operation } => {
                let (runner, events) = (Rc::clone(&self.runner), self.events.clone());
                // It counts as begun from now on.
                runner.expect(order);
                tokio::task::spawn_local(async move {
                    let _ = events.send(runner.run(order, operation).await);
                });
            }
            Effect::Kill { order } if self.runner.forestall(order) => {}
            Effect::Kill { order } => {
                let _ = self.leftovers.send((order, Wanted::Kill));
            }
            Effect::Watch { order } => {
                let _ = self.leftovers.send((order, Wanted::Watch));
            }
            Effect::FeedWatchdogUntil(until) => {
                if let Some(watchdog) = &mut self.watchdog
                    && let Err(error) = watchdog.feed_until(now, until)
                {
                    tracing::error!("the watchdog cannot be armed: {error}");
                }
            }
            Effect::ReleaseWatchdog => {
                if let Some(watchdog) = &mut self.watchdog {
                    watchdog.release();
                }
            }
        }
    }

    fn send(&mut self, link: LinkId, message: &FromAgent) {
        let Some((outgoing, _)) = self.links.get(&link) else { return };
        let frame = match frame::encode(message) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::error!(%link, "{error}");
                self.close(link);
                return self.lost.push(link);
            }
        };
        if outgoing.try_send(frame).is_err() {
            tracing::warn!(%link, "the manager does not read: its connection is closed");
            self.close(link);
            self.lost.push(link);
        }
    }

    fn close(&mut self, link: LinkId) {
        if let Some((_, closed)) = self.links.remove(&link) {
            closed.notify_one();
        }
    }
}

/// How often certificates are looked at.
pub const CERTIFICATES: Duration = Duration::from_secs(24 * 3600);
