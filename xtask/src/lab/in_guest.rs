//! A gateway in a guest: an IKE daemon that leaves ESP to the guest's kernel. What differs from daemon to daemon is its
//! language.

use std::fs;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::gateway::{Connection, Gateway, IkeSa, Program};
use super::guest::Guest;
use super::namespace::Namespace;
use super::sandbox::WORK;
use crate::outcome::Result;

/// The language of one daemon. What goes to the guest are shell scripts.
pub(crate) trait Dialect: Sync {
    /// Which daemon.
    const PROGRAM: Program;
    /// The name of its process.
    const PROCESS: &'static str;
    /// Prints what [`Dialect::sas`] reads.
    const SHOW: &'static str;
    /// Asks it to end.
    const STOP: &'static str;

    /// Its configuration: files below /run of the guest, and their text. `begins` is a connection that shall begin now,
    /// whatever its plan says.
    ///
    /// # Errors
    /// What the language has no words for.
    fn files(connections: &[Connection], settings: &str, begins: Option<&str>) -> Result<Vec<(&'static str, String)>>;

    /// Starts it and waits until it takes commands.
    fn start(connections: &[Connection]) -> String;

    /// Has it read its configuration again.
    fn reload(connections: &[Connection]) -> String;

    /// Establishes a child; may return before that is done.
    fn up(connection: &str, child: &str) -> String;

    /// Deletes the IKE SA.
    fn down(connection: &Connection) -> String;

    /// Rekeys a child.
    ///
    /// # Errors
    /// When it has no such command.
    fn rekey_child(connection: &str, child: &str) -> Result<String>;

    /// Rekeys the IKE SA that this child lies in.
    ///
    /// # Errors
    /// When it has no such command.
    fn rekey_ike(connection: &str, child: &str) -> Result<String>;

    /// Reads what it shows.
    ///
    /// # Errors
    /// When that is not as expected.
    fn sas(shown: &str, connections: &[Connection]) -> Result<Vec<IkeSa>>;
}

/// One gateway in a guest.
pub(crate) struct InGuest<D> {
    namespace: Arc<Namespace>,
    folder: PathBuf,
    guest: Option<Guest>,
    /// Further lines of its configuration.
    settings: String,
    connections: Mutex<Vec<Connection>>,
    dialect: PhantomData<D>,
}

impl<D: Dialect> InGuest<D> {
    /// Not started yet. `settings` are further lines of its configuration, in its own language.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub(crate) fn new(namespace: &Arc<Namespace>, settings: &str) -> Result<Self> {
        let folder = PathBuf::from(WORK).join(namespace.name());
        fs::create_dir_all(&folder)?;
        Ok(Self {
            namespace: Arc::clone(namespace),
            folder,
            guest: None,
            settings: settings.to_owned(),
            connections: Mutex::default(),
            dialect: PhantomData,
        })
    }

    fn run(&self, script: &str) -> Result<String> {
        self.guest.as_ref().ok_or("the guest does not run")?.run(script)
    }

    fn connections(&self) -> Vec<Connection> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts the configuration where the daemon reads it, and a copy where people look for it.
    fn write(&self, begins: Option<&str>) -> Result {
        for (name, text) in D::files(&self.connections(), &self.settings, begins)? {
            self.run(&format!("umask 077; tee /mnt/{name} >/run/{name} <<'END'\n{text}END\n"))?;
        }
        Ok(())
    }

    /// The first child of a connection: enough to name its IKE SA.
    fn a_child(&self, connection: &str) -> Result<String> {
        let connections = self.connections();
        let found = connections.iter().find(|known| known.name == connection);
        Ok(found.and_then(|known| known.children.first()).ok_or("no such peer")?.name.clone())
    }
}

impl<D: Dialect> Gateway for InGuest<D> {
    fn program(&self) -> Program {
        D::PROGRAM
    }

    fn configure(&self, connections: &[Connection]) -> Result {
        D::files(connections, &self.settings, None)?;
        *self.connections.lock().unwrap_or_else(PoisonError::into_inner) = connections.to_vec();
        if self.guest.is_some() { self.write(None) } else { Ok(()) }
    }

    fn configure_as_written(&self, _: &str, _: &str) -> Result {
        Err(format!("no page shows a configuration of {:?}", D::PROGRAM).into())
    }

    fn reload(&self) -> Result {
        self.run(&D::reload(&self.connections())).map(drop)
    }

    fn start(&mut self) -> Result {
        if self.guest.is_none() {
            self.guest = Some(Guest::boot(&self.namespace, &self.folder)?);
        }
        self.write(None)?;
        self.run(&D::start(&self.connections())).map(drop)
    }

    fn up(&self, connection: &str, child: &str) -> Result {
        self.write(Some(connection))?;
        self.run(&D::up(connection, child))?;
        (self as &dyn Gateway).wait_up(connection, child, Duration::from_secs(20)).map(drop)
    }

    fn down(&self, connection: &str) -> Result {
        self.write(None)?;
        for known in self.connections().iter().filter(|known| known.name == connection) {
            self.run(&D::down(known))?;
        }
        Ok(())
    }

    fn rekey_child(&self, connection: &str, child: &str) -> Result {
        self.run(&D::rekey_child(connection, child)?).map(drop)
    }

    fn rekey_ike(&self, connection: &str) -> Result {
        self.run(&D::rekey_ike(connection, &self.a_child(connection)?)?).map(drop)
    }

    fn sas(&self) -> Result<Vec<IkeSa>> {
        D::sas(&self.shown()?, &self.connections())
    }

    fn shown(&self) -> Result<String> {
        self.run(D::SHOW)
    }

    fn cause(&self, _: &str) -> Result<String> {
        let log = self.log();
        let words = [
            ("AUTHENTICATION_FAILED", "AUTHENTICATION_FAILED"),
            ("NO_PROPOSAL_CHOSEN", "NO_PROPOSAL_CHOSEN"),
            ("TS_UNACCEPTABLE", "TS_UNACCEPTABLE"),
            // What Libreswan says when it is the one that refuses.
            ("compatible Traffic Selectors", "TS_UNACCEPTABLE"),
        ];
        let named = log.lines().rev().find_map(|line| words.into_iter().find(|(said, _)| line.contains(said)));
        let named = named.map(|(_, name)| name);
        Ok(named.unwrap_or_default().to_owned())
    }

    fn lose_sas(&self) -> Result {
        self.run("ip xfrm state flush").map(drop)
    }

    fn stop(&mut self) -> Result {
        if self.guest.is_none() {
            return Ok(());
        }
        let (stop, process) = (D::STOP, D::PROCESS);
        let gone = format!("for n in $(seq 100); do pgrep -x {process} >/dev/null || exit 0; sleep 0.1; done; exit 1");
        self.run(&format!("{stop}\n{gone}")).map(drop)
    }

    fn kill(&mut self) {
        // As after a crash the kernel's SAs and policies stay.
        let _ = self.run(&format!("kill -9 $(pgrep -x {})", D::PROCESS));
    }

    fn log(&self) -> String {
        // The guest's view: what it has written may not have reached the folder yet.
        self.run("cat /mnt/log /mnt/out 2>/dev/null; true").unwrap_or_default()
    }
}
