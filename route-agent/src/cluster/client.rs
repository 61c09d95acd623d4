//! The way to the API server: one client over all addresses it may have.
//!
//! Before kube-proxy runs, the address of the `kubernetes` Service leads nowhere, so others can be named; each
//! request goes to the address that answered last, and to the next ones when it does not. Certificates are checked
//! against the address that is used. All requests share one HTTP/2 connection, whose pings notice within
//! [`PING_EVERY`] and [`PING_LIMIT`] that the server, or the way to it, is gone: no watch hangs on a dead connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, bail, ensure};
use http::header::USER_AGENT;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::client::{Body, ConfigExt};
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig};
use tokio::sync::watch;
use tokio::time::timeout;
use tower::util::option_layer;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tracing::{info, warn};

use super::Options;
use super::gone::Definition;

/// TCP and TLS, for one address.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Until an answer begins. The API server itself gives up after 60 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How often a connection with watches on it is tried.
const PING_EVERY: Duration = Duration::from_secs(15);
/// How long an answer to that may take.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// In the API server's audit log.
const AGENT: &str = concat!("towpath/", env!("CARGO_PKG_VERSION"));

/// The door to the API server.
#[derive(Clone)]
pub(crate) struct Api {
    client: kube::Client,
    namespace: Arc<str>,
    servers: Arc<[Uri]>,
    away: watch::Receiver<Option<Away>>,
}

/// The API server does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Away {
    pub(crate) since: SystemTime,
    /// Of the first request that had no answer, for each address.
    pub(crate) error: String,
}

impl Api {
    /// Reads the credentials; does not connect yet.
    ///
    /// # Errors
    /// No usable credentials, or an address that is none.
    pub(crate) async fn open(options: &Options) -> anyhow::Result<Self> {
        let config = match &options.kubeconfig {
            Some(path) => {
                let read = || format!("reading --kubeconfig {}", path.display());
                let kubeconfig = Kubeconfig::read_from(path).with_context(read)?;
                let chosen = KubeConfigOptions::default();
                kube::Config::from_custom_kubeconfig(kubeconfig, &chosen).await.with_context(read)?
            }
            None => in_cluster(!options.servers.is_empty())?,
        };
        ensure!(
            config.proxy_url.is_none(),
            "the kubeconfig names a proxy-url, which is not supported; remove it"
        );
        let named = options.servers.iter().map(|server| address(server));
        let mut servers = named.collect::<anyhow::Result<Vec<_>>>()?;
        if config.cluster_url.host() != Some(NOWHERE) {
            servers.push(config.cluster_url.clone());
        }
        servers.dedup();
        let (told, away) = watch::channel(None);
        let servers: Arc<[Uri]> = servers.into();
        let addresses =
            Addresses { servers: Arc::clone(&servers), current: Arc::default(), away: Arc::new(told) };
        let http = option_layer(config.auth_layer()?).layer(http_client(&config)?.map_err(BoxError::from));
        let service = service_fn(move |request| addresses.clone().send(http.clone(), request));
        let client = kube::Client::new(service, options.namespace.as_str());
        Ok(Self { client, namespace: options.namespace.as_str().into(), servers, away })
    }

    /// For requests.
    pub(crate) fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// The daemon's own namespace.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Every address of the API server, as an operator wrote it.
    pub(crate) fn servers(&self) -> Vec<String> {
        self.servers.iter().map(shown).collect()
    }

    /// The definition of this name, as the server has it now and not as its cache does.
    pub(super) async fn definition(&self, name: &str) -> Definition {
        let definitions: kube::Api<CustomResourceDefinition> = kube::Api::all(self.client());
        match definitions.get_metadata_opt(name).await {
            Ok(None) => Definition::Absent,
            Ok(Some(found)) if found.metadata.deletion_timestamp.is_some() => Definition::Leaving,
            Ok(Some(found)) => match found.metadata.creation_timestamp {
                Some(made) => Definition::Since(made.0),
                None => Definition::Unknown(format!("{name} has no creationTimestamp")),
            },
            Err(kube::Error::Api(status)) => Definition::Unknown(status.message),
            Err(error) => Definition::Unknown(error.to_string()),
        }
    }

    /// Whether the last request had an answer of any kind.
    pub(crate) fn away(&self) -> watch::Receiver<Option<Away>> {
        self.away.clone()
    }
}

/// Stands for the Service's address where there is none.
const NOWHERE: &str = "kubernetes.default.svc";

/// The pod's service account; `named`: other addresses are given.
fn in_cluster(named: bool) -> anyhow::Result<kube::Config> {
    let config = match kube::Config::incluster() {
        Err(InClusterError::ReadEnvironmentVariable(_)) if named => kube::Config::incluster_dns(),
        other => other,
    };
    config.context("no service account of a pod is here; give --kubeconfig, or configuration files with -f")
}

/// `10.0.1.1:6443`, `https://api.example.com`.
fn address(text: &str) -> anyhow::Result<Uri> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let refused = |why: &str| anyhow!("--api-server {text}: {why}; write https://ADDRESS:PORT");
    let uri: Uri = whole.parse().map_err(|error| refused(&format!("{error}")))?;
    if uri.scheme() != Some(&Scheme::HTTPS) {
        bail!(refused("only https is spoken"));
    }
    let bare = |authority: &Authority| authority.as_str() == authority.host();
    if uri.authority().is_none_or(|authority| !bare(authority) && authority.port_u16().is_none()) {
        bail!(refused("the port is no number"));
    }
    if uri.path() != "/" || uri.query().is_some() {
        bail!(refused("a path is not supported"));
    }
    Ok(uri)
}

type Connecting = tower::util::BoxCloneSyncService<Uri, Connection, BoxError>;
type Connection = hyper_rustls::MaybeHttpsStream<hyper_util::rt::TokioIo<tokio::net::TcpStream>>;

fn http_client(config: &kube::Config) -> anyhow::Result<HttpClient<Connecting, Body>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // For servers behind something that speaks only HTTP/1.1, which has no pings.
    tcp.set_keepalive(Some(PING_EVERY));
    tcp.set_keepalive_interval(Some(PING_LIMIT / 2));
    tcp.set_keepalive_retries(Some(2));
    tcp.set_tcp_user_timeout(Some(PING_EVERY + PING_LIMIT));
    let tls = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config().context("certificates for the API server")?)
        .https_or_http();
    let tls = match &config.tls_server_name {
        Some(name) => {
            let name = name.clone().try_into().context("tls-server-name of the kubeconfig")?;
            tls.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name))
        }
        None => tls,
    };
    let https = tls.enable_http1().enable_http2().wrap_connector(tcp);
    let connecting = service_fn(move |uri: Uri| {
        let connecting = https.clone().oneshot(uri);
        async move {
            timeout(CONNECT_LIMIT, connecting)
                .await
                .unwrap_or_else(|_| Err(format!("no connection within {} s", CONNECT_LIMIT.as_secs()).into()))
        }
    });
    let mut builder = HttpClient::builder(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(PING_LIMIT);
    Ok(builder.build(Connecting::new(connecting)))
}

/// Sends requests to whichever address answers.
#[derive(Clone)]
struct Addresses {
    servers: Arc<[Uri]>,
    /// Index of the one that answered last.
    current: Arc<AtomicUsize>,
    away: Arc<watch::Sender<Option<Away>>>,
}

impl Addresses {
    async fn send<S, B>(self, http: S, request: Request<Body>) -> Result<Response<B>, BoxError>
    where
        S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone,
    {
        let (mut parts, body) = request.into_parts();
        parts.headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let method = parts.method.clone();
        let count = self.servers.len();
        let first = self.current.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for (index, server) in self.servers.iter().enumerate().cycle().skip(first).take(count) {
            let body = body.try_clone().ok_or("a body that cannot be sent twice")?;
            let mut parts = parts.clone();
            parts.uri = at(server, &parts.uri)?;
            let answer = http.clone().oneshot(Request::from_parts(parts, body));
            let error = match timeout(ANSWER_LIMIT, answer).await {
                Ok(Ok(response)) => {
                    self.current.store(index, Ordering::Relaxed);
                    self.answered();
                    return Ok(response);
                }
                Ok(Err(error)) => error,
                Err(_) => format!("no answer within {} s", ANSWER_LIMIT.as_secs()).into(),
            };
            let again = may_be_repeated(&method, &error);
            failures.push(format!("{}: {:#}", shown(server), anyhow::Error::from_boxed(error)));
            if !again {
                break;
            }
        }
        let error = failures.join("; ");
        self.silent(&error);
        Err(error.into())
    }

    fn answered(&self) {
        let mut was = None;
        self.away.send_if_modified(|away| {
            was = away.take();
            was.is_some()
        });
        if let Some(away) = was {
            let elapsed_ms = away.since.elapsed().unwrap_or_default().as_millis();
            info!(elapsed_ms, "the API server answers again");
        }
    }

    fn silent(&self, error: &str) {
        let told = self.away.send_if_modified(|away| {
            let begins = away.is_none();
            if begins {
                *away = Some(Away { since: SystemTime::now(), error: error.to_owned() });
            }
            begins
        });
        if told {
            warn!(error, "the API server does not answer; what runs stays as it is");
        }
    }
}

/// What the server may have carried out already is not asked for twice.
fn may_be_repeated(method: &Method, error: &BoxError) -> bool {
    let unsent =
        error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect());
    unsent || method.is_safe()
}

/// The same request, asked of `server`; a path of its own stays in front.
fn at(server: &Uri, request: &Uri) -> Result<Uri, http::Error> {
    let path = request.path_and_query().map_or("/", PathAndQuery::as_str);
    let mut parts = server.clone().into_parts();
    parts.path_and_query = Some(format!("{}{path}", server.path().trim_end_matches('/')).parse()?);
    Ok(Uri::from_parts(parts)?)
}

/// As an operator writes it.
fn shown(server: &Uri) -> String {
    server.to_string().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn an_address_may_be_short_and_must_be_one() {
        for (text, expected) in [
            ("10.0.1.1:6443", "https://10.0.1.1:6443/"),
            ("https://[fd00::1]:6443", "https://[fd00::1]:6443/"),
            ("api.example.com", "https://api.example.com/"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), expected);
        }
        for text in ["http://10.0.1.1", "https://10.0.1.1/prefix", "https://", "10.0.1.1:port"] {
            let refused = address(text).unwrap_err().to_string();
            assert!(refused.contains(text) && refused.contains("https://ADDRESS:PORT"), "{refused}");
        }
    }

    #[test]
    fn a_request_keeps_its_path_behind_that_of_the_server() {
        let request: Uri = "/api/v1/nodes?watch=1".parse().unwrap();
        for (server, expected) in [
            ("https://10.0.0.1:6443", "https://10.0.0.1:6443/api/v1/nodes?watch=1"),
            ("https://proxy/k8s/c1/", "https://proxy/k8s/c1/api/v1/nodes?watch=1"),
        ] {
            assert_eq!(at(&server.parse().unwrap(), &request).unwrap().to_string(), expected);
        }
    }

    /// What was asked of whom, with servers `a` and `b` of which those in `down` do not answer.
    async fn asked(addresses: &Addresses, method: Method, down: &[&str]) -> (Vec<String>, bool) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let down: Vec<String> = down.iter().map(|&name| name.to_owned()).collect();
        let (log, silent) = (Arc::clone(&seen), down);
        let http = service_fn(move |request: Request<Body>| {
            let host = request.uri().host().unwrap_or_default().to_owned();
            log.lock().unwrap().push(host.clone());
            let answer =
                if silent.contains(&host) { Err(BoxError::from("reset")) } else { Ok(Response::new(())) };
            std::future::ready(answer)
        });
        let request = Request::builder().method(method).uri("/x").body(Body::empty()).unwrap();
        let answered = addresses.clone().send(http, request).await.is_ok();
        (std::mem::take(&mut *seen.lock().unwrap()), answered)
    }

    #[tokio::test]
    async fn requests_go_to_the_address_that_answers_and_writes_are_not_sent_twice() {
        let servers: Vec<Uri> = ["https://a", "https://b"].map(|uri| uri.parse().unwrap()).into();
        let (told, away) = watch::channel(None);
        let addresses = Addresses { servers: servers.into(), current: Arc::default(), away: Arc::new(told) };
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(asked(&addresses, Method::GET, &["a"]).await, (names(&["a", "b"]), true));
        assert_eq!(asked(&addresses, Method::PATCH, &[]).await, (names(&["b"]), true), "it stays there");
        assert_eq!(asked(&addresses, Method::PATCH, &["b"]).await, (names(&["b"]), false));
        assert!(away.borrow().is_some());
        assert_eq!(asked(&addresses, Method::GET, &["a", "b"]).await, (names(&["b", "a"]), false));
        let since = away.borrow().clone();
        assert!(since.as_ref().is_some_and(|away| away.error.contains("https://b: reset")), "{since:?}");
        assert_eq!(asked(&addresses, Method::GET, &["b"]).await, (names(&["b", "a"]), true));
        assert_eq!(*away.borrow(), None);
    }
}
