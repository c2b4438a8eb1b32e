//! One attempt to change the power of a host, or to learn it.

use std::sync::Arc;
use std::time::Duration;

use super::{DeviceAction, DeviceAnswer, Goal, Step, Verdict};
use crate::ha::config::{FenceDevice, FenceLevel};
use crate::time::Mono;

/// One attempt to reach a goal, over all levels. The caller carries out each step and comes back with the answer, one at a
/// time.
///
/// [`Goal::Off`], for each level in turn:
/// 1. `status` of all its devices. All off: done, without touching anything.
/// 2. `off` on each device that is not off. Before the first one of all, the longest `delay` of these devices is waited.
/// 3. `status` of all devices again, whatever `off` answered: at once, then after pauses that grow, until all say off. This
///    goes on for [`PowerChange::VERIFY`] if each `off` said that it succeeded, else it is done once.
/// 4. Not all off: from 1 again after a pause, as long as a device that is not off has `attempts` left, and at most as often
///    as the largest `attempts` of the level. Then the next level. What was switched stays as it is.
///
/// [`Goal::On`]: the same with `on`, for the devices of the first level that answer. [`Goal::Status`]: the first level whose
/// devices all answer decides; where they disagree the host is on.
///
/// What a device said before it was switched counts for nothing, and neither does a `status` that failed. The exit code of
/// `off` is never a proof.
///
/// The whole is over within [`PowerChange::budget`] after its first step, whoever sleeps in between: a call that could
/// outlive that is not made any more, even if this program were killed ([`PowerChange::AFTERLIFE`]). The caller must give each
/// call no more than its device's `timeout`.
#[derive(Debug, Clone)]
pub struct PowerChange {
    levels: Vec<FenceLevel>,
    goal: Goal,
    /// Nothing lives longer than this. Set by the first step at the latest.
    deadline: Option<Mono>,
    level: usize,
    /// How often devices of the level were switched together.
    attempt: u32,
    /// What is known of the devices of the present level.
    devices: Vec<Device>,
    phase: Phase,
    /// The call whose answer is due.
    called: Option<(usize, DeviceAction)>,
    delayed: bool,
    acted: bool,
    /// What happened at the levels that failed.
    report: Vec<String>,
    verdict: Option<Verdict>,
}

#[derive(Debug, Clone, Default)]
struct Device {
    /// Its last answer to `status` since it was switched.
    power: Option<Power>,
    /// How often it was switched.
    tries: u32,
    /// What it said last to being switched.
    switched: Option<String>,
    /// What it said last to `status`.
    status: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    Off,
}

#[derive(Debug, Clone)]
enum Phase {
    /// `status` of each device, from this one on.
    Look { next: usize },
    /// Nothing before this time, then [`Phase::Switch`].
    Delay { until: Mono },
    /// `off` or `on` for each device that needs it, from this one on. `failed`: one said that it failed.
    Switch { next: usize, failed: bool },
    /// `status` of each device until one is not as wanted.
    Verify { next: usize, round: Round },
    /// Nothing before this time, then [`Phase::Verify`].
    VerifyAgain { at: Mono, round: Round },
    /// Nothing before this time, then [`Phase::Look`].
    LookAgain { at: Mono },
}

/// How long to go on verifying.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// No round begins after this.
    until: Mono,
    /// The pause after this one.
    pause: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// Words of a device in a report are cut here.
const WORDS: usize = 300;

impl PowerChange {
    /// How long a device that said `off` is asked again before it counts as failed.
    pub const VERIFY: Duration = Duration::from_secs(20);

    /// A call may live this much longer than its timeout, if this program is killed meanwhile.
    pub const AFTERLIFE: Duration = Duration::from_secs(2);

    /// What [`PowerChange::budget`] adds for a caller that is not prompt, besides an eighth.
    const SLACK: Duration = Duration::from_secs(10);

    /// Begins.
    pub fn new(levels: Vec<FenceLevel>, goal: Goal) -> Self {
        let level = levels.iter().position(|level| !level.devices.is_empty());
        let devices = level.map_or(0, |level| levels[level].devices.len());
        Self {
            goal,
            deadline: None,
            level: level.unwrap_or(levels.len()),
            levels,
            attempt: 0,
            devices: vec![Device::default(); devices],
            phase: Phase::Look { next: 0 },
            called: None,
            delayed: false,
            acted: false,
            report: Vec::new(),
            verdict: None,
        }
    }

    /// Begins with a fixed end: no call lives longer than this, even if the first step comes late. For an intent that says
    /// when it ends: [`PowerChange::budget`] after the first step is to be made.
    pub fn ending_by(mut self, deadline: Mono) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// What it was begun with.
    pub fn levels(&self) -> &[FenceLevel] {
        &self.levels
    }

    /// An upper bound of the time from the first step to the end of the last call, for the intent of a fencing. It holds
    /// even if the caller is stopped in between, and is generous enough never to be met by one that is prompt.
    pub fn budget(&self) -> Duration {
        let mut sum = Duration::ZERO;
        for level in &self.levels {
            if level.devices.is_empty() {
                continue;
            }
            let timeouts = level.devices.iter().map(|device| device.timeout);
            let round = timeouts.fold(Duration::ZERO, Duration::saturating_add);
            sum = sum.saturating_add(match self.goal {
                Goal::Status => round,
                Goal::Off | Goal::On => {
                    let attempts = most_attempts(level);
                    let attempt = round.saturating_mul(3).saturating_add(Self::VERIFY + LONGEST_PAUSE);
                    attempt.saturating_mul(attempts)
                }
            });
            if self.goal == Goal::Off {
                // Only one level waits, but which one is not known.
                sum = sum.saturating_add(longest_delay(level.devices.iter().map(|device| &**device)));
            }
        }
        sum.saturating_add(sum / 8).saturating_add(Self::SLACK)
    }

    /// The next step. `answer` is that of the last [`Step::Call`], `None` at the beginning and after a [`Step::Wait`].
    ///
    /// Coming back from a wait too early gives the same wait again; coming back from a call without an answer counts as
    /// none in time; an answer that nobody waits for is ignored.
    pub fn step(&mut self, now: Mono, answer: Option<DeviceAnswer>) -> Step {
        let deadline = *self.deadline.get_or_insert(now + self.budget());
        if self.level == self.levels.len() && self.verdict.is_none() {
            self.verdict = Some(Verdict::Failed("no fence device is configured for this host".to_owned()));
        }
        if let Some(verdict) = &self.verdict {
            return Step::Over(verdict.clone());
        }
        if let Some((device, action)) = self.called.take() {
            self.take(device, action, answer.unwrap_or(DeviceAnswer::TimedOut));
        }
        loop {
            match self.advance(now) {
                None => {}
                Some(Step::Call { device, action, .. })
                    if now + self.device(device).timeout + Self::AFTERLIFE > deadline =>
                {
                    let name = &self.device(device).name;
                    let late = format!("{name}: no time is left to call {}", word(action));
                    self.report.push(self.level_words());
                    self.report.push(late);
                    return self.over(Verdict::Failed(self.words()));
                }
                Some(Step::Call { level, device, action }) => {
                    self.called = Some((device, action));
                    if matches!(action, DeviceAction::Off | DeviceAction::On) {
                        let called = &mut self.devices[device];
                        // Whatever it said before is void from now on.
                        called.power = None;
                        called.status = None;
                        called.tries += 1;
                        self.acted = true;
                    }
                    return Step::Call { level, device, action };
                }
                Some(Step::Over(verdict)) => return self.over(verdict),
                Some(wait) => return wait,
            }
        }
    }

    fn over(&mut self, verdict: Verdict) -> Step {
        if matches!(verdict, Verdict::Off { .. }) {
            assert!(self.all(Power::Off), "no off without the word of each device");
        }
        self.verdict = Some(verdict.clone());
        Step::Over(verdict)
    }

    /// Takes an answer.
    fn take(&mut self, index: usize, action: DeviceAction, answer: DeviceAnswer) {
        let device = &mut self.devices[index];
        if action == DeviceAction::Status {
            device.power = match answer {
                DeviceAnswer::On => Some(Power::On),
                DeviceAnswer::Off => Some(Power::Off),
                _ => None,
            };
            device.status = Some(words(&answer));
            return;
        }
        device.switched = Some(words(&answer));
        if answer != DeviceAnswer::Done
            && let Phase::Switch { failed, .. } = &mut self.phase
        {
            *failed = true;
        }
    }

    /// One move: a step, or `None` if only the phase changed.
    fn advance(&mut self, now: Mono) -> Option<Step> {
        match self.phase.clone() {
            Phase::Look { next } if next < self.devices.len() => {
                self.phase = Phase::Look { next: next + 1 };
                Some(self.call(next, DeviceAction::Status))
            }
            Phase::Look { .. } => self.looked(now),
            Phase::Delay { until } => {
                if now < until {
                    return Some(Step::Wait(until));
                }
                self.phase = Phase::Switch { next: 0, failed: false };
                None
            }
            Phase::Switch { next, failed } => {
                let Some(index) = (next..self.devices.len()).find(|&index| self.needs_switching(index))
                else {
                    let until = if failed { now } else { now + Self::VERIFY };
                    self.phase = Phase::Verify { next: 0, round: Round { until, pause: FIRST_PAUSE } };
                    return None;
                };
                self.phase = Phase::Switch { next: index + 1, failed };
                let action = if self.goal == Goal::On { DeviceAction::On } else { DeviceAction::Off };
                Some(self.call(index, action))
            }
            Phase::Verify { next, round } => self.verify(now, next, round),
            Phase::VerifyAgain { at, round } => {
                if now < at {
                    return Some(Step::Wait(at));
                }
                self.phase = Phase::Verify { next: 0, round };
                None
            }
            Phase::LookAgain { at } => {
                if now < at {
                    return Some(Step::Wait(at));
                }
                self.phase = Phase::Look { next: 0 };
                None
            }
        }
    }

    /// All devices of the level were asked.
    fn looked(&mut self, now: Mono) -> Option<Step> {
        let answered = |device: &Device| device.power.is_some();
        match self.goal {
            Goal::Status if self.devices.iter().all(answered) => Some(Step::Over(self.seen())),
            Goal::Status => self.next_level(),
            Goal::Off if self.all(Power::Off) => Some(Step::Over(self.seen())),
            Goal::On if !self.devices.iter().any(answered) && !self.switched() => self.next_level(),
            Goal::On if self.reached() => Some(Step::Over(Verdict::On)),
            Goal::Off | Goal::On => {
                let to_switch = (0..self.devices.len()).filter(|&index| self.needs_switching(index));
                if !self.may_switch() {
                    return self.next_level();
                }
                let delay = longest_delay(to_switch.map(|index| self.device(index)));
                self.attempt += 1;
                if self.goal == Goal::Off && !self.delayed {
                    self.delayed = true;
                    self.phase = Phase::Delay { until: now + delay };
                } else {
                    self.phase = Phase::Switch { next: 0, failed: false };
                }
                None
            }
        }
    }

    /// `status` after `off` or `on`: the device before `next` was asked last.
    fn verify(&mut self, now: Mono, next: usize, round: Round) -> Option<Step> {
        let as_wanted = next == 0 || self.is_as_wanted(next - 1);
        if as_wanted && next < self.devices.len() {
            self.phase = Phase::Verify { next: next + 1, round };
            return Some(self.call(next, DeviceAction::Status));
        }
        if as_wanted && self.reached() {
            return Some(Step::Over(self.seen()));
        }
        if now < round.until {
            let at = (now + round.pause).min(round.until);
            let pause = (round.pause * 2).min(LONGEST_PAUSE);
            self.phase = Phase::VerifyAgain { at, round: Round { pause, ..round } };
            return None;
        }
        if self.may_switch() {
            let backoff = (FIRST_PAUSE * (1 << (self.attempt - 1).min(4))).min(LONGEST_PAUSE);
            self.phase = Phase::LookAgain { at: now + backoff };
            return None;
        }
        self.next_level()
    }

    fn next_level(&mut self) -> Option<Step> {
        self.report.push(self.level_words());
        let next = (self.level + 1..self.levels.len()).find(|&level| !self.levels[level].devices.is_empty());
        let Some(next) = next else {
            return Some(Step::Over(Verdict::Failed(self.words())));
        };
        self.level = next;
        self.attempt = 0;
        self.devices = vec![Device::default(); self.levels[self.level].devices.len()];
        self.phase = Phase::Look { next: 0 };
        None
    }

    /// The device of a [`Step::Call`]: as configured when this began, whatever was reloaded since.
    pub fn called_device(&self, level: usize, device: usize) -> Option<&Arc<FenceDevice>> {
        self.levels.get(level)?.devices.get(device)
    }

    fn call(&self, device: usize, action: DeviceAction) -> Step {
        Step::Call { level: self.level, device, action }
    }

    fn device(&self, index: usize) -> &FenceDevice {
        &self.levels[self.level].devices[index]
    }

    fn all(&self, power: Power) -> bool {
        !self.devices.is_empty() && self.devices.iter().all(|device| device.power == Some(power))
    }

    /// Whether a device of the level was switched.
    fn switched(&self) -> bool {
        self.devices.iter().any(|device| device.tries > 0)
    }

    fn is_as_wanted(&self, index: usize) -> bool {
        let power = self.devices[index].power;
        match self.goal {
            Goal::Off => power == Some(Power::Off),
            // A device that does not answer and was not switched is none of ours.
            Goal::On => power == Some(Power::On) || power.is_none() && self.devices[index].tries == 0,
            Goal::Status => true,
        }
    }

    /// Whether the devices of the level say what is wanted.
    fn reached(&self) -> bool {
        match self.goal {
            Goal::Off => self.all(Power::Off),
            Goal::On => {
                self.devices.iter().any(|device| device.power == Some(Power::On))
                    && (0..self.devices.len()).all(|index| self.is_as_wanted(index))
            }
            Goal::Status => false,
        }
    }

    /// Whether another attempt may be made with the level: one of its devices needs it and has attempts left, and the level
    /// as a whole has.
    fn may_switch(&self) -> bool {
        self.attempt < most_attempts(&self.levels[self.level])
            && (0..self.devices.len()).any(|index| self.needs_switching(index))
    }

    fn needs_switching(&self, index: usize) -> bool {
        let left = self.devices[index].tries < attempts(self.device(index));
        left && !self.is_as_wanted(index)
    }

    fn seen(&self) -> Verdict {
        if self.all(Power::Off) { Verdict::Off { acted: self.acted } } else { Verdict::On }
    }

    /// What the devices of the level said.
    fn level_words(&self) -> String {
        let said = |(index, device): (usize, &Device)| {
            let mut words = format!("{}:", self.device(index).name);
            if let Some(switched) = &device.switched {
                let action = if self.goal == Goal::On { "on" } else { "off" };
                words += &format!(" {action}: {switched},");
            }
            words + " status: " + device.status.as_deref().unwrap_or("not asked")
        };
        self.devices.iter().enumerate().map(said).collect::<Vec<_>>().join("; ")
    }

    fn words(&self) -> String {
        self.report.join("; ")
    }
}

fn attempts(device: &FenceDevice) -> u32 {
    device.attempts.max(1)
}

fn most_attempts(level: &FenceLevel) -> u32 {
    level.devices.iter().map(|device| attempts(device)).max().unwrap_or(1)
}

fn longest_delay<'a>(devices: impl Iterator<Item = &'a FenceDevice>) -> Duration {
    devices.map(|device| device.delay).max().unwrap_or_default()
}

fn word(action: DeviceAction) -> &'static str {
    match action {
        DeviceAction::Status => "status",
        DeviceAction::Off => "off",
        DeviceAction::On | DeviceAction::Unfence => "on",
        DeviceAction::Monitor => "monitor",
        DeviceAction::Identify => "identify",
    }
}

fn words(answer: &DeviceAnswer) -> String {
    match answer {
        DeviceAnswer::Done => "done".to_owned(),
        DeviceAnswer::On => "on".to_owned(),
        DeviceAnswer::Off => "off".to_owned(),
        DeviceAnswer::Failed(text) if text.is_empty() => "failed".to_owned(),
        DeviceAnswer::Failed(text) => format!("failed ({})", text.chars().take(WORDS).collect::<String>()),
        DeviceAnswer::TimedOut => "no answer in time".to_owned(),
        DeviceAnswer::Uuid(_) | DeviceAnswer::Unsupported => "an answer to another question".to_owned(),
    }
}
