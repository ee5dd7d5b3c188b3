//! A private Slurm of two nodes on this machine: a controller, two node daemons and munge in a folder, without systemd.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::cluster::{kill, until};

const DAEMONS: [&str; 3] = ["munged", "slurmctld", "slurmd"];

pub struct Cluster {
    folder: TempDir,
    munge: Option<Child>,
    controller: Option<Child>,
    nodes: [Option<Child>; 2],
}

impl Cluster {
    /// Starts a cluster. `hidden` is a folder in which the nodes see nothing.
    pub fn start(hidden: Option<&Path>) -> Self {
        let missing: Vec<_> = DAEMONS.into_iter().filter(|name| find(name).is_none()).collect();
        assert!(missing.is_empty(), "not installed: {missing:?}");
        assert!(fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0), "Slurm's daemons need root here");
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Cluster { folder, munge: None, controller: None, nodes: [None, None] };
        cluster.configure();
        cluster.munge = Some(cluster.munge());
        until("munge answers", || cluster.path("munge/socket").exists());
        cluster.start_controller();
        for node in [0, 1] {
            cluster.start_node(node, hidden);
        }
        until("both nodes are idle", || cluster.run("sinfo", &["--noheader", "--format=%T %D"]).trim() == "idle 2");
        cluster
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn configuration(&self) -> PathBuf {
        self.path("slurm.conf")
    }

    /// Most of it is one text.
    fn configure(&self) {
        for name in ["munge", "state", "log", "spool-n1", "spool-n2"] {
            fs::create_dir(self.path(name)).unwrap();
        }
        // Any bytes will do for a key that nobody else uses.
        fs::write(self.path("munge/key"), vec![42; 128]).unwrap();
        for (name, mode) in [("munge", "755"), ("munge/key", "600")] {
            assert!(Command::new("chmod").arg(mode).arg(self.path(name)).status().unwrap().success());
        }
        // A device that is always there stands for a GPU.
        fs::write(self.path("gres.conf"), "Name=gpu File=/dev/null\n").unwrap();
        let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |number: usize| listeners[number].local_addr().unwrap().port();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim().split('.').next().unwrap();
        let folder = self.folder.path().display();
        let node = |number: usize| {
            format!(
                "NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={} CPUs=4 RealMemory=2000 Gres=gpu:1",
                port(number)
            )
        };
        let text = format!(
            "ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/slurmd-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
MessageTimeout=5
KillWait=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerNode=400
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SchedulerParameters=batch_sched_delay=0,sched_interval=1
GresTypes=gpu
SlurmdParameters=config_overrides
MinJobAge=3600
{}
{}
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
",
            port(0),
            node(1),
            node(2)
        );
        fs::write(self.configuration(), text).unwrap();
    }

    fn munge(&self) -> Child {
        let option = |name: &str, file: &str| format!("--{name}={}", self.path(&format!("munge/{file}")).display());
        let mut command = Command::new(find("munged").unwrap());
        command.args(["--foreground", "--force"]).arg(option("key-file", "key")).arg(option("socket", "socket"));
        command.arg(option("pid-file", "pid")).arg(option("log-file", "log")).arg(option("seed-file", "seed"));
        silent(&mut command)
    }

    pub fn start_controller(&mut self) {
        let mut command = Command::new(find("slurmctld").unwrap());
        command.arg("-D").arg("-f").arg(self.configuration());
        // Only the first one starts without the state of another.
        if self.controller.is_none() {
            command.arg("-c");
        }
        self.controller = Some(silent(command.env("SLURM_CONF", self.configuration())));
    }

    pub fn kill_controller(&mut self) {
        let controller = self.controller.as_mut().unwrap();
        controller.kill().unwrap();
        controller.wait().unwrap();
    }

    fn start_node(&mut self, node: usize, hidden: Option<&Path>) {
        let script = match hidden {
            Some(_) => "mount -t tmpfs tmpfs \"$4\" && exec \"$1\" -D -N \"$2\" -f \"$3\"",
            None => "exec \"$1\" -D -N \"$2\" -f \"$3\"",
        };
        let mut command = Command::new(if hidden.is_some() { "unshare" } else { "sh" });
        if hidden.is_some() {
            command.args(["--mount", "sh"]);
        }
        command.args(["-c", script, "sh"]).arg(find("slurmd").unwrap()).arg(format!("n{}", node + 1));
        command.arg(self.configuration()).args(hidden).env("SLURM_CONF", self.configuration());
        self.nodes[node] = Some(silent(&mut command));
    }

    /// Kills the daemon of a node, and nothing that runs there.
    pub fn kill_daemon(&mut self, node: &str) {
        let node = usize::from(node == "n2");
        kill(self.nodes[node].take().unwrap());
    }

    /// Runs one of Slurm's commands.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).env("SLURM_CONF", self.configuration()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Number, state, node and name of the jobs that wait or run.
    pub fn jobs(&self) -> Vec<[String; 4]> {
        let text = self.run("squeue", &["--noheader", "--format=%i|%T|%N|%j"]);
        let row = |line: &str| line.splitn(4, '|').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
        text.lines().map(row).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.nodes.iter().any(Option::is_some) {
            self.run("scancel", &["--quiet", "--state=RUNNING"]);
            self.run("scancel", &["--quiet", "--state=PENDING"]);
        }
        for child in self.nodes.iter_mut().chain([&mut self.controller, &mut self.munge]).filter_map(Option::take) {
            kill(child);
        }
    }
}

fn silent(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Where a program is; daemons are often not on the path of a user.
fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.exists())
}

/// The process that started this one.
pub fn parent(pid: &str) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().to_owned()
}
