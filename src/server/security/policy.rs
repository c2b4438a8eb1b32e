//! Who may do what. Pure: names and messages in, yes or no out.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::config::keys;
use crate::hsm::effect::Reply;
use crate::hsm::event::Message;
use crate::tls::{Peer, Role};

/// What a peer may do. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Look: `status`.
    ReadOnly,
    /// Be a mover: `ehlo` with an id, `recv`, `done`, `lease`.
    Mover,
    /// Everything.
    Admin,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read_only",
            Self::Mover => "mover",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Access {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::ReadOnly, Self::Mover, Self::Admin];
        let lower = text.to_ascii_lowercase().replace('-', "_");
        all.into_iter().find(|access| access.to_string() == lower).ok_or_else(|| {
            let near = keys::nearest_of(&lower, ["read_only", "mover", "admin"]);
            let hint = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            format!("`{text}` is not a role: read_only, mover or admin{hint}")
        })
    }
}

/// Who a peer has proven to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Somebody who reached the plain port.
    Plain,
    /// A process of this host, root's or one of the configured group.
    Local,
    /// The holder of a certificate.
    Certificate(Box<Peer>),
    /// A holder of the pre-shared key with this id, whose file gives this access.
    Key {
        /// [`crate::security::Psk::id`].
        id: String,
    },
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("anybody"),
            Self::Local => f.write_str("local"),
            Self::Certificate(peer) => write!(f, "certificate of {peer}"),
            Self::Key { id } => write!(f, "pre-shared key {id}"),
        }
    }
}

/// What is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What peers of the plain port may do.
    pub plain: Access,
    /// What holders of certificates with these names may do, whatever the certificate says; `None` for nothing at all.
    /// In lower case.
    pub roles: BTreeMap<String, Option<Access>>,
    /// The holder of a mover's certificate may only be the mover that it names.
    pub bind_ids: bool,
    /// What holders of pre-shared keys may do, by the key's id.
    pub keys: BTreeMap<String, Access>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { plain: Access::Admin, roles: BTreeMap::new(), bind_ids: true, keys: BTreeMap::new() }
    }
}

impl Policy {
    /// What somebody may do. The error says why that is nothing.
    ///
    /// # Errors
    /// See above.
    pub fn access(&self, principal: &Principal) -> Result<Access, String> {
        match principal {
            Principal::Plain => Ok(self.plain),
            Principal::Local => Ok(Access::Admin),
            Principal::Key { id } => {
                self.keys.get(id).copied().ok_or_else(|| format!("the pre-shared key {id} is not in use"))
            }
            Principal::Certificate(peer) => self.of_certificate(peer),
        }
    }

    /// What the holder of this certificate may do, or why nothing.
    pub(super) fn of_certificate(&self, peer: &Peer) -> Result<Access, String> {
        let mut told = peer.names.iter().filter_map(|name| Some((name, *self.roles.get(name)?))).peekable();
        if told.peek().is_some() {
            // A certificate with several names gets the least of what they are given, and nothing if one is barred.
            let least = told.min_by_key(|(_, access)| *access);
            return match least {
                Some((_, Some(access))) => Ok(access),
                Some((name, None)) => Err(format!("{name} has the role none")),
                None => Err("no role".to_owned()),
            };
        }
        match peer.role {
            Some(Role::Admin | Role::Server) => Ok(Access::Admin),
            Some(Role::Mover) => Ok(Access::Mover),
            Some(Role::ReadOnly) => Ok(Access::ReadOnly),
            Some(role @ (Role::Agent | Role::Manager)) => Err(format!(
                "the certificate of {peer} is for the role {role}, of high availability; `role NAME ROLE` allows more"
            )),
            None => Err(format!(
                "the certificate of {peer} does not say what it may be used for, and no line `role NAME ROLE` does"
            )),
        }
    }

    /// Whether somebody with this access may send this. The error is for the peer.
    ///
    /// # Errors
    /// See above.
    pub fn may(&self, principal: &Principal, access: Access, message: &Message) -> Result<(), Refusal> {
        let refuse = |why| Err(Refusal { command: command(message), why });
        if access < needed(message) {
            return refuse(match access {
                Access::ReadOnly => "not permitted for the role read_only",
                Access::Mover => "not permitted for the role mover",
                Access::Admin => "not permitted",
            });
        }
        if let (Message::Ehlo(ehlo), Principal::Certificate(peer), Access::Mover, true) =
            (message, principal, access, self.bind_ids)
            && let Some(id) = &ehlo.id
            && !is_called(peer, id)
        {
            return refuse("the certificate is for another id");
        }
        Ok(())
    }
}

/// Whether a mover may have this id: a name in its certificate, or the part of a name before the first dot, which is the id
/// of movers that are not given one.
fn is_called(peer: &Peer, id: &str) -> bool {
    let id = id.to_ascii_lowercase();
    peer.names.iter().any(|name| *name == id || name.split('.').next() == Some(id.as_str()))
}

/// The least access that a message needs. What is not listed needs the most.
fn needed(message: &Message) -> Access {
    match message {
        Message::Status { .. } => Access::ReadOnly,
        // Without an id nobody becomes a mover; every client greets so.
        Message::Ehlo(ehlo) if ehlo.id.is_none() && ehlo.hai_list.is_none() => Access::ReadOnly,
        Message::Ehlo(_)
        | Message::EhloBadArchiveId
        | Message::Recv(_)
        | Message::Done(_)
        | Message::Unheard(_)
        | Message::DoneIncomplete
        | Message::GoesOn
        | Message::Lease { .. } => Access::Mover,
        Message::Queue(_) | Message::Lock(_) => Access::Admin,
    }
}

/// What the answer to a message begins with.
fn command(message: &Message) -> &'static str {
    match message {
        Message::Ehlo(_) | Message::EhloBadArchiveId => "ehlo",
        Message::Recv(_) => "recv",
        Message::Done(_) | Message::Unheard(_) | Message::DoneIncomplete | Message::GoesOn => "done",
        Message::Queue(_) => "queue",
        Message::Lock(_) => "lock",
        Message::Status { .. } => "status",
        Message::Lease { .. } => "lease",
    }
}

/// A message that was not acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub command: &'static str,
    /// Why.
    pub why: &'static str,
}

impl Refusal {
    /// The answer: EPERM, with the sign that C gives errors of this command.
    pub fn reply(&self) -> Reply {
        let status = if self.command == "queue" { -libc::EPERM } else { libc::EPERM };
        Reply::Error { command: self.command, status, error: self.why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::event::{Done, Ehlo, Lock, Queue, Recv};
    use lustreapi_sys::Fid;

    fn peer(names: &[&str], role: Option<Role>) -> Principal {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Principal::Certificate(Box::new(Peer { names, role, ..Peer::default() }))
    }

    fn ehlo(id: Option<&str>) -> Message {
        Message::Ehlo(Ehlo { id: id.map(str::to_owned), ..Ehlo::default() })
    }

    #[test]
    fn roles_include_each_other() {
        let recv = Recv { max_archive: None, max_restore: None, max_remove: None, max_bytes: 1 << 20 };
        let claims = Ehlo { hai_list: Some(Vec::new()), ..Ehlo::default() };
        let table = [
            (Message::Status { verbose: 6 }, Access::ReadOnly),
            (ehlo(None), Access::ReadOnly),
            (ehlo(Some("m0")), Access::Mover),
            (Message::Ehlo(claims), Access::Mover),
            (Message::EhloBadArchiveId, Access::Mover),
            (Message::Recv(recv), Access::Mover),
            (Message::DoneIncomplete, Access::Mover),
            (Message::GoesOn, Access::Mover),
            (Message::Unheard(Done { cookie: 1, dfid: Fid::new(1, 2, 0), status: 2 }), Access::Mover),
            (Message::Lease { serial: 1 }, Access::Mover),
            (Message::Queue(Queue::default()), Access::Admin),
            (Message::Lock(Some(Lock::Locked)), Access::Admin),
        ];
        let policy = Policy::default();
        for (message, least) in table {
            for access in [Access::ReadOnly, Access::Mover, Access::Admin] {
                let answer = policy.may(&Principal::Plain, access, &message);
                assert_eq!(answer.is_ok(), access >= least, "{access} {message:?}: {answer:?}");
            }
        }
        let refused = policy.may(&Principal::Plain, Access::Mover, &Message::Lock(None)).unwrap_err();
        assert_eq!(
            refused.reply(),
            Reply::Error { command: "lock", status: 1, error: "not permitted for the role mover" }
        );
        let refused = policy.may(&Principal::Plain, Access::Mover, &Message::Queue(Queue::default()));
        assert!(matches!(refused.unwrap_err().reply(), Reply::Error { status: -1, .. }));
    }

    #[test]
    fn certificates_have_the_role_in_them_or_in_the_configuration() {
        let mut policy = Policy::default();
        for (name, access) in [
            ("mover9", Some(Access::Admin)),
            ("stolen", None),
            ("both", Some(Access::ReadOnly)),
            ("mgmt", Some(Access::Mover)),
        ] {
            policy.roles.insert(name.to_owned(), access);
        }
        type Row = (&'static [&'static str], Option<Role>, Result<Access, &'static str>);
        let table: [Row; 13] = [
            (&["mover0"], Some(Role::Mover), Ok(Access::Mover)),
            (&["a"], Some(Role::Admin), Ok(Access::Admin)),
            (&["a"], Some(Role::Server), Ok(Access::Admin)),
            (&["a"], Some(Role::ReadOnly), Ok(Access::ReadOnly)),
            (&["oss1"], Some(Role::Agent), Err("is for the role agent")),
            (&["mgs"], Some(Role::Manager), Err("is for the role manager")),
            (&["mgmt"], Some(Role::Manager), Ok(Access::Mover)),
            (&["a"], None, Err("does not say what it may be used for")),
            (&[], None, Err("does not say")),
            (&["mover9"], None, Ok(Access::Admin)),
            (&["mover9", "both"], Some(Role::Admin), Ok(Access::ReadOnly)),
            (&["stolen"], Some(Role::Mover), Err("stolen has the role none")),
            (&["mover9", "stolen"], Some(Role::Admin), Err("stolen has the role none")),
        ];
        for (names, role, want) in table {
            match (policy.access(&peer(names, role)), want) {
                (Ok(access), Ok(want)) => assert_eq!(access, want, "{names:?}"),
                (Err(why), Err(want)) => assert!(why.contains(want), "{names:?}: {why}"),
                (got, want) => panic!("{names:?} {role:?}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn ids_are_bound_to_the_names_of_certificates() {
        let mut policy = Policy::default();
        let mover = peer(&["mover0", "mover1.example.org"], Some(Role::Mover));
        let table = [
            ("mover0", true),
            ("MOVER0", true),
            ("mover1.example.org", true),
            ("mover1", true),
            ("mover2", false),
            ("mover1.example", false),
            ("example", false),
            ("mover", false),
        ];
        for (id, good) in table {
            let answer = policy.may(&mover, Access::Mover, &ehlo(Some(id)));
            assert_eq!(answer.is_ok(), good, "{id}");
            // An administrator may be anybody, and so may whoever shares a key or the plain port.
            for principal in [&mover, &Principal::Plain, &Principal::Key { id: "k".into() }] {
                let access = if *principal == mover { Access::Admin } else { Access::Mover };
                assert!(policy.may(principal, access, &ehlo(Some(id))).is_ok(), "{id}");
            }
        }
        policy.bind_ids = false;
        assert!(policy.may(&mover, Access::Mover, &ehlo(Some("mover2"))).is_ok());
    }

    #[test]
    fn keys_and_the_plain_port_have_what_is_configured() {
        let mut policy = Policy { plain: Access::ReadOnly, ..Policy::default() };
        policy.keys.insert("k1".into(), Access::Mover);
        assert_eq!(policy.access(&Principal::Plain), Ok(Access::ReadOnly));
        assert_eq!(policy.access(&Principal::Local), Ok(Access::Admin));
        assert_eq!(policy.access(&Principal::Key { id: "k1".into() }), Ok(Access::Mover));
        let gone = policy.access(&Principal::Key { id: "k2".into() }).unwrap_err();
        assert_eq!(gone, "the pre-shared key k2 is not in use");
    }

    #[test]
    fn names_of_roles() {
        for access in [Access::ReadOnly, Access::Mover, Access::Admin] {
            assert_eq!(access.to_string().parse(), Ok(access));
        }
        assert_eq!("Read-Only".parse(), Ok(Access::ReadOnly));
        assert!("movr".parse::<Access>().unwrap_err().ends_with("did you mean `mover`?"));
    }
}
