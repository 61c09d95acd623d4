//! etcd and kube-apiserver alone, in a network namespace.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::pki::Pki;
use super::program::{Program, program};
use crate::netns::Netns;
use crate::wait::until;

/// Addresses of the API server's node: one of each family.
pub(super) const ADDRESSES: [&str; 2] = ["172.20.0.100", "fd00:20::100"];
const PORT: u16 = 6443;

/// Patience for a start on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// What may be asked for beside an API server.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Writes down every request it serves, for [`ApiServer::audit`].
    pub audit: bool,
    /// Further lines of its token file: `token,user,uid,"group"`.
    pub tokens: Vec<String>,
    /// Further arguments of kube-apiserver.
    pub arguments: Vec<String>,
    /// Address families of the cluster, whose first is that of Services.
    pub families: Families,
}

/// Address families of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Families {
    /// Both, IPv4 first.
    #[default]
    Dual,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

impl Families {
    /// Whether IPv4 is among them.
    #[must_use]
    pub fn v4(self) -> bool {
        self != Self::V6
    }

    /// Whether IPv6 is among them.
    #[must_use]
    pub fn v6(self) -> bool {
        self != Self::V4
    }

    /// Of `v4` and `v6`, those of these families, as lists of prefixes are written.
    fn of(self, v4: &str, v6: &str) -> String {
        let words = [self.v4().then_some(v4), self.v6().then_some(v6)];
        words.into_iter().flatten().collect::<Vec<_>>().join(",")
    }

    /// The ranges of pods.
    #[must_use]
    pub fn pods(self) -> String {
        self.of("10.244.0.0/16", "fd00:244::/56")
    }

    /// The ranges of Services.
    #[must_use]
    pub fn services(self) -> String {
        self.of("10.96.0.0/16", "fd00:96::/112")
    }

    /// The cluster's name server.
    #[must_use]
    pub fn dns(self) -> &'static str {
        if self.v4() { "10.96.0.10" } else { "fd00:96::a" }
    }

    /// The API server's address.
    fn api_server(self) -> &'static str {
        if self.v4() { ADDRESSES[0] } else { ADDRESSES[1] }
    }
}

/// A running API server; see [`crate::kube`].
#[derive(Debug)]
pub struct ApiServer {
    netns: Netns,
    options: Options,
    pki: Pki,
    etcd: Option<Program>,
    server: Option<Program>,
    folder: tempfile::TempDir,
}

impl ApiServer {
    /// Starts one in a namespace of its own, empty, and waits until it is ready.
    ///
    /// # Errors
    /// What is missing, or what ended; with its log.
    pub fn up() -> anyhow::Result<Self> {
        Self::with(Options::default())
    }

    /// As [`ApiServer::up`].
    ///
    /// # Errors
    /// As there.
    pub fn with(options: Options) -> anyhow::Result<Self> {
        let netns = Netns::fresh()?;
        netns.ip(&format!("address add {}/32 dev lo", ADDRESSES[0]))?;
        netns.ip(&format!("address add {}/128 dev lo nodad", ADDRESSES[1]))?;
        Self::in_netns(&netns, options)
    }

    /// As [`ApiServer::up`], in a namespace that exists and has the address of [`ApiServer::url`].
    ///
    /// # Errors
    /// As there.
    pub fn in_netns(netns: &Netns, options: Options) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("towpath-api-").tempdir()?;
        let pki = Pki::make(&folder.path().join("pki"), &ADDRESSES)?;
        let mut server = Self { netns: netns.clone(), options, pki, etcd: None, server: None, folder };
        let own = ["admin-token,admin,1,\"system:masters\"".to_owned()];
        let tokens: Vec<&str> = own.iter().chain(&server.options.tokens).map(String::as_str).collect();
        fs::write(server.path("tokens.csv"), tokens.join("\n") + "\n")?;
        fs::write(
            server.path("audit.yaml"),
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{ level: Metadata }]\n",
        )?;
        server.pki.kubeconfig(&server.kubeconfig(), &server.url(), "admin-token")?;
        server.start()?;
        Ok(server)
    }

    /// Starts it again after [`ApiServer::kill`], with what it had stored, and waits until it is ready.
    ///
    /// # Errors
    /// When it runs already, or does not become ready; with its log.
    pub fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.server.is_none(), "the API server runs already");
        if self.etcd.is_none() {
            let log = self.path("etcd.log");
            self.etcd = Some(Program::start(&self.netns, "etcd", &self.etcd_arguments(), &log)?);
        }
        let log = self.path("kube-apiserver.log");
        self.server = Some(Program::start(&self.netns, "kube-apiserver", &self.arguments(), &log)?);
        let address = self.options.families.api_server();
        let ready = until(LIMIT, "the API server to be ready", || {
            for program in [&mut self.etcd, &mut self.server].into_iter().flatten() {
                if let Err(ended) = program.check() {
                    return Ok(Some(Err(ended)));
                }
            }
            // kubectl takes its time to start; whether anybody listens is quickly asked.
            self.netns.run(|| Ok(std::net::TcpStream::connect((address, PORT))?))?;
            self.kubectl(&["get", "--raw", "/readyz"]).map(|_| Some(Ok(())))
        });
        ready.with_context(|| self.last_words())?
    }

    /// Kills it as a crash would. etcd, and so everything stored, lives on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.server.take().map(drop).context("the API server does not run")
    }

    /// Runs kubectl as an administrator, in the namespace of the server, and gives what it prints. Its working folder
    /// is the repository.
    ///
    /// # Errors
    /// When it fails; with its words.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let kubectl = program("kubectl")?.display().to_string();
        let kubeconfig = self.kubeconfig().display().to_string();
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").display().to_string();
        // Not the user's own cache folder: two servers at one address would share what they offer.
        let cache = self.path("kubectl").display().to_string();
        let argv = ["env", "-C", &repository, &kubectl, "--kubeconfig", &kubeconfig, "--cache-dir", &cache];
        let output = self.netns.exec(&[&argv, arguments].concat())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {}{text}", arguments.join(" "), words.trim());
        Ok(text)
    }

    /// `kubectl ARGUMENTS -o json`.
    ///
    /// # Errors
    /// As [`ApiServer::kubectl`].
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.kubectl(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("kubectl {}: {text}", arguments.join(" ")))
    }

    /// `kubectl apply --server-side` of this text.
    ///
    /// # Errors
    /// As [`ApiServer::kubectl`]; the server's words about what it refuses are among them.
    pub fn apply(&self, yaml: &str) -> anyhow::Result<String> {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile_in(self.folder.path())?;
        fs::write(file.path(), yaml)?;
        let path = file.path().display().to_string();
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &path])
    }

    /// A token of a service account, which is made if it is missing; its namespace too.
    ///
    /// # Errors
    /// As [`ApiServer::kubectl`].
    pub fn token(&self, namespace: &str, account: &str) -> anyhow::Result<String> {
        self.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}\n---\n\
             {{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {account}, namespace: {namespace}}}}}\n"
        ))?;
        Ok(self.kubectl(&["create", "token", account, "--namespace", namespace])?.trim().to_owned())
    }

    /// A kubeconfig with which a service account comes in; see [`ApiServer::token`].
    ///
    /// # Errors
    /// As [`ApiServer::kubectl`].
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(&format!("{namespace}-{account}.conf"));
        self.pki.kubeconfig(&path, &self.url(), &self.token(namespace, account)?)?;
        Ok(path)
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("admin.conf")
    }

    /// Where it is reached, from its namespace.
    #[must_use]
    pub fn url(&self) -> String {
        match self.options.families.api_server() {
            v6 if v6.contains(':') => format!("https://[{v6}]:{PORT}"),
            v4 => format!("https://{v4}:{PORT}"),
        }
    }

    /// The certificate of the authority that signed the server's.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        PathBuf::from(self.pki.path("ca.crt"))
    }

    /// The namespace it runs in.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The requests it has served, oldest first, as its audit log has them (`audit.k8s.io/v1`, level Metadata).
    ///
    /// # Errors
    /// When [`Options::audit`] was not asked for.
    pub fn audit(&self) -> anyhow::Result<Vec<Value>> {
        ensure!(self.options.audit, "there is no audit log: ask for one in Options::audit");
        let file = fs::File::open(self.path("audit.log")).context("opening the audit log")?;
        let lines = BufReader::new(file).lines();
        lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
    }

    /// What both programs printed last.
    #[must_use]
    pub fn last_words(&self) -> String {
        let programs = [&self.etcd, &self.server].into_iter().flatten();
        programs.map(Program::last_words).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn pki(&self) -> &Pki {
        &self.pki
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn etcd_arguments(&self) -> Vec<String> {
        let data = self.path("etcd").display().to_string();
        let peers = "http://127.0.0.1:2380";
        let clients = "http://127.0.0.1:2379";
        [
            // What a test stores need not outlive the machine.
            "--unsafe-no-fsync",
            &format!("--data-dir={data}"),
            &format!("--listen-client-urls={clients}"),
            &format!("--advertise-client-urls={clients}"),
            &format!("--listen-peer-urls={peers}"),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn arguments(&self) -> Vec<String> {
        let pki = &self.pki;
        let own = [
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            "--bind-address=::".to_owned(),
            format!("--advertise-address={}", self.options.families.api_server()),
            format!("--secure-port={PORT}"),
            format!("--tls-cert-file={}", pki.path("apiserver.crt")),
            format!("--tls-private-key-file={}", pki.path("apiserver.key")),
            format!("--token-auth-file={}", self.path("tokens.csv").display()),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", pki.path("sa.pub")),
            format!("--service-account-signing-key-file={}", pki.path("sa.key")),
            format!("--service-cluster-ip-range={}", self.options.families.services()),
            "--allow-privileged".to_owned(),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--kubelet-client-certificate={}", pki.path("apiserver.crt")),
            format!("--kubelet-client-key={}", pki.path("apiserver.key")),
        ];
        let audit = self.options.audit.then(|| {
            [
                format!("--audit-policy-file={}", self.path("audit.yaml").display()),
                format!("--audit-log-path={}", self.path("audit.log").display()),
                "--audit-log-maxsize=100000".to_owned(),
            ]
        });
        let further = self.options.arguments.iter().cloned();
        own.into_iter().chain(audit.into_iter().flatten()).chain(further).collect()
    }
}
