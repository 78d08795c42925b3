//! PostgreSQL under pgbench: a server of many processes, stripped but for what it exports. Its calls are as many as the
//! benchmark's transactions need, and a change of load shows in `report`, `graph` and `diff`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::need;
use tests::process::{Process, Signal, run};
use tests::recorder::{Trace, ada, exe};
use tests::scratch::Scratch;
use tests::session::Session;
use tests::wait;

/// A server of its own, as the user `postgres`, that listens on a socket in its folder.
struct Postgres {
    programs: PathBuf,
    user: u32,
    server: Process,
    scratch: Scratch,
}

impl Postgres {
    fn start() -> Self {
        let scratch = Scratch::new();
        let programs = programs();
        let user = user(&scratch);
        std::os::unix::fs::chown(scratch.path(), Some(user), None).expect("its folder");
        let data = scratch.join("data");
        let mut init = Command::new(programs.join("initdb"));
        drop(
            run(init.args(["--no-sync", "--no-locale", "-A", "trust", "-D"]).arg(&data).uid(user), scratch.path())
                .success(),
        );
        let mut command = Command::new(programs.join("postgres"));
        command.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-c", "autovacuum=off", "-c", "fsync=off"]);
        command.arg("-c").arg(format!("unix_socket_directories={}", scratch.path().display()));
        let server = Process::start(command.uid(user), scratch.path());
        let postgres = Self { programs, user, server, scratch };
        wait::until("the server answers", || {
            run(&mut postgres.client("pg_isready", &[]), postgres.scratch.path()).status.success().then_some(())
        });
        drop(run(&mut postgres.client("pgbench", &["-i", "-q", "postgres"]), postgres.scratch.path()).success());
        postgres
    }

    fn client(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.arg("-h").arg(self.scratch.path()).args(arguments).uid(self.user);
        command
    }

    /// Records the server and all of its processes while so many transactions are run by two clients.
    fn record(&self, scratch: &Scratch, script: &str) -> Session {
        let recorder = Trace::new(scratch, exe(&["heap_update", "heap_insert", "PortalRun"])).arg("-f");
        let recorder = recorder.pid(self.server.pid());
        let bench = ["-n", "-c", "2", "-t", TRANSACTIONS, "-b", script, "postgres"];
        drop(run(&mut self.client("pgbench", &bench), self.scratch.path()).success());
        recorder.process.signal(Signal::INT);
        recorder.session().complete()
    }
}

/// Of each client.
const TRANSACTIONS: &str = "100";

/// Where Debian has the programs of the newest version.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("versions").flatten();
    let versions = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("pgbench").exists());
    versions.max().expect("a version")
}

fn user(scratch: &Scratch) -> u32 {
    let id = run(Command::new("id").args(["-u", "postgres"]), scratch.path()).success().out;
    id.trim().parse().expect("a user id")
}

fn lines(scratch: &Scratch, command: &str, folders: &[&Path]) -> Vec<Value> {
    let mut arguments = vec![command.to_owned(), "--format".to_owned(), "jsonl".to_owned()];
    arguments.extend(folders.iter().map(|folder| folder.display().to_string()));
    let said = ada(scratch, arguments).success().out;
    said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The line of a function.
fn of<'a>(lines: &'a [Value], function: &str) -> &'a Value {
    lines.iter().find(|line| line["function"] == function).unwrap_or_else(|| panic!("no {function} in {lines:?}"))
}

#[test]
fn a_change_of_load() {
    if !(need::root() && need::program("pgbench")) {
        return;
    }
    let postgres = Postgres::start();
    let [first, second] = [Scratch::new(), Scratch::new()];
    let before = postgres.record(&first, "tpcb-like");
    let after = postgres.record(&second, "simple-update");
    // Each transaction updates an account, a teller and a branch, and adds a line to the history; the simple one leaves
    // teller and branch out. One that meets another's update of a branch updates again.
    assert!((600..700).contains(&before.calls("heap_update")), "{}", before.calls("heap_update"));
    assert_eq!(before.calls("heap_insert"), 200);
    assert_eq!([after.calls("heap_update"), after.calls("heap_insert")], [200, 200]);
    let (a, b) = (before.folder.as_path(), after.folder.as_path());
    let report = lines(&first, "report", &[a]);
    assert_eq!(of(&report, "heap_insert")["calls"], 200);
    let graph = lines(&first, "graph", &[a]);
    let (portal, update) = (of(&graph, "PortalRun"), of(&graph, "heap_update"));
    assert_eq!(update["parent"], portal["id"]);
    assert_eq!(update["calls"], before.calls("heap_update"));
    let diff = lines(&first, "diff", &[a, b]);
    let change = of(&diff, "heap_update");
    assert_eq!([&change["before"]["calls"], &change["after"]["calls"]], [before.calls("heap_update"), 200]);
    assert!(change["verdict"].is_string());
    postgres.server.signal(Signal::INT);
    drop(postgres.server.end().success());
}
