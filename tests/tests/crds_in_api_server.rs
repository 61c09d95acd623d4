//! What a real API server makes of the CRDs: it takes them, takes what is right, and refuses what is wrong in the
//! words of the daemon, for every rule and every refusal that one object alone can show.
//!
//! One server for all tests here; every object is only tried (`--dry-run=server`). Needs root and `make setup`.

#[path = "../../api/tests/refusals/rows/mod.rs"]
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, ensure};
use serde_json::Value;
use towpath_tests::kube::ApiServer;

const KINDS: [&str; 5] = ["NetworkConfig", "BGPPeer", "Advertisement", "IPPool", "NodeNetwork"];

/// Objects of the daemon's own tests that it refuses and an API server takes: name of the row, and why.
const TAKEN: &[(&str, &str)] = &[
    ("a tag", "kubectl reads the YAML, and sends what the tag asks for"),
    ("yes for true", "kubectl reads YAML 1.1, where it is true"),
    ("an octal number", "kubectl reads YAML 1.1, where it is 420"),
    ("a label of base 60", "kubectl reads it as the text it is"),
    ("a community of base 60", "kubectl reads it as the text it is"),
    ("a label key that is a boolean", "kubectl sends every key as text"),
];

/// Objects that an API server refuses in other words than the daemon: name of the row, and why.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("a name with a line break", "names are checked by the API server itself, before our rules"),
    ("a name with capitals", "names are checked by the API server itself, before our rules"),
    ("a remoteASN with a typo", "CEL cannot look for the nearest word"),
];

/// What only an API server refuses by itself; to the daemon these are references to what is not there.
fn only_here() -> Vec<rows::Row> {
    vec![
        (
            "a Secret by names that none can have",
            rows::peer("auth: {md5SecretRef: {name: BGP, key: pass word, namespace: kube.system}}"),
            &[
                "7: BGPPeer/tor spec.auth.md5SecretRef.name: BGP is not allowed; use lower-case letters, digits, - and .",
                "7: BGPPeer/tor spec.auth.md5SecretRef.key: pass word is not allowed; use letters, digits, -, _ and .",
                "7: BGPPeer/tor spec.auth.md5SecretRef.namespace: kube.system is not allowed; use lower-case letters, digits and -",
            ],
        ),
        (
            "a peer by a name that none can have",
            rows::advertisement("source: {podBlocks: {}}\npeers: [Tor]"),
            &[
                "6: Advertisement/adv spec.peers[0]: Tor is not allowed; use lower-case letters, digits, - and .",
            ],
        ),
    ]
}

static SERVER: LazyLock<ApiServer> =
    LazyLock::new(|| start().unwrap_or_else(|error| panic!("an API server with the CRDs: {error:#}")));

fn start() -> anyhow::Result<ApiServer> {
    let server = ApiServer::up()?;
    let apply = ["apply", "--warnings-as-errors", "-f", "deploy/crds.yaml"];
    let first = server.kubectl(&apply)?;
    ensure!(first.lines().filter(|line| line.ends_with(" created")).count() == KINDS.len(), "{first}");
    let again = server.kubectl(&apply)?;
    ensure!(again.lines().filter(|line| line.ends_with(" unchanged")).count() == KINDS.len(), "{again}");
    server.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])?;
    server.apply("{apiVersion: v1, kind: Namespace, metadata: {name: towpath-system}}")?;
    Ok(server)
}

/// Asks the server about every document; the answer is what it refuses it with, if it does.
fn tried(documents: &[String]) -> anyhow::Result<Vec<Option<String>>> {
    let folder = tempfile::tempdir()?;
    let file = |index: usize| format!("{index:04}.yaml");
    for (index, text) in documents.iter().enumerate() {
        fs::write(folder.path().join(file(index)), text)?;
    }
    // kubectl names the file of a refusal only when it has several to tell.
    for extra in ["a.yaml", "b.yaml"] {
        fs::write(folder.path().join(extra), rows::network("asn: 0"))?;
    }
    let path = folder.path().display().to_string();
    let said = match SERVER.kubectl(&["create", "--dry-run=server", "--warnings-as-errors", "-f", &path]) {
        Ok(said) => said,
        Err(error) => format!("{error:#}"),
    };
    let answers: Vec<Option<String>> = (0..documents.len())
        .map(|index| {
            let named = format!("/{}\": ", file(index));
            said.lines().find_map(|line| line.split_once(&named)).map(|(_, answer)| answer.to_owned())
        })
        .collect();
    let taken = said.lines().filter(|line| line.ends_with(" created (server dry run)")).count();
    let refused = answers.iter().flatten().count();
    ensure!(
        taken + refused == documents.len(),
        "{taken} taken, {refused} refused of {}: {said}",
        documents.len()
    );
    Ok(answers)
}

#[test]
fn every_resource_of_examples_documents_and_manifests_is_taken() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut documents: BTreeMap<String, String> = BTreeMap::new();
    for path in
        ["examples", "docs", "deploy", "README.md"].map(|path| repository.join(path)).iter().flat_map(files)
    {
        let text = fs::read_to_string(&path).unwrap();
        let blocks: Vec<&str> = match path.extension().and_then(|extension| extension.to_str()) {
            Some("md") => {
                text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
            }
            _ => vec![&text],
        };
        for document in blocks.iter().flat_map(|block| block.split("\n---\n")) {
            if document.contains("apiVersion: towpath.io/") || document.contains("kind: Secret\n") {
                documents.insert(format!("{} #{}", path.display(), documents.len()), document.to_owned());
            }
        }
    }
    assert!(documents.len() > 60, "only {} resources were found", documents.len());
    let texts: Vec<String> = documents.values().cloned().collect();
    let answers = tried(&texts).unwrap();
    let refused: Vec<String> = documents
        .keys()
        .zip(answers)
        .filter_map(|(place, answer)| Some(format!("{place}: {}", answer?)))
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// Files with YAML at or below `path`.
fn files(path: &PathBuf) -> Vec<PathBuf> {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path)
            .expect("can be listed")
            .map(|entry| entry.expect("can be listed").path())
            .collect();
        entries.sort();
        return entries.iter().flat_map(files).collect();
    }
    let extension = path.extension().and_then(|extension| extension.to_str());
    // Templates of the chart are no YAML yet.
    let yaml = matches!(extension, Some("yaml" | "yml" | "md"))
        && !path.components().any(|part| part.as_os_str() == "templates");
    if yaml { vec![path.clone()] } else { Vec::new() }
}

/// A refusal of one object, by the daemon.
struct Refusal {
    kind: String,
    /// `spec.cidrs[0]`
    path: String,
    message: String,
}

/// A document of ours that is refused by itself.
struct Refused {
    row: &'static str,
    text: String,
    refusals: Vec<Refusal>,
}

/// Every document of the daemon's own tests that is an object of ours and refused by itself.
fn refused_by_the_daemon() -> Vec<Refused> {
    let all = [
        rows::documents::text_and_documents(),
        rows::documents::shapes(),
        rows::documents::fields_that_come_later(),
        rows::documents::what_follows_from_what(),
        rows::meanings::network_and_node(),
        rows::meanings::peers(),
        rows::meanings::secrets(),
        rows::meanings::advertisements_and_pools(),
        rows::places::one_object(),
    ];
    let mut refused = Vec::new();
    for (row, text, _) in all.into_iter().flatten() {
        for document in text.split("---\n").filter(|document| is_object(document)) {
            let mut documents = api::Documents::default();
            documents.add("fabric.yaml", document.as_bytes());
            let mut problems = documents.build("node-1").err().unwrap_or_default();
            // That is said of two objects: the one named may be made later.
            problems.retain(|problem| !problem.message.starts_with("there is no "));
            if !problems.is_empty() {
                let refusals = problems.into_iter().map(|problem| Refusal {
                    kind: problem.resource.split('/').next().unwrap_or_default().to_owned(),
                    path: problem.path,
                    message: problem.message,
                });
                refused.push(Refused { row, text: document.to_owned(), refusals: refusals.collect() });
            }
        }
    }
    refused
}

/// Whether kubectl can send it as an object of one of our kinds.
fn is_object(document: &str) -> bool {
    let Ok(value) = serde_yaml::from_str::<serde_yaml::Value>(document) else { return false };
    let text = |value: Option<&serde_yaml::Value>| value.and_then(|value| value.as_str()).map(str::to_owned);
    // A list as a key is YAML, and nothing that JSON could say.
    serde_json::to_value(&value).is_ok()
        && text(value.get("apiVersion")).is_some_and(|version| version == api::crd::API_VERSION)
        && text(value.get("kind")).is_some_and(|kind| KINDS.contains(&kind.as_str()))
        && text(value.get("metadata").and_then(|metadata| metadata.get("name"))).is_some()
}

/// As the row says it: `5: BGPPeer/tor spec.ttl: is empty; ...`.
fn refusal(line: &str) -> Refusal {
    let (_, rest) = line.split_once(": ").expect("a line");
    let (object, rest) = rest.split_once(' ').expect("an object");
    let (path, message) = rest.split_once(": ").expect("a path");
    let kind = object.split('/').next().expect("a kind");
    Refusal { kind: kind.into(), path: path.into(), message: message.into() }
}

impl Refusal {
    /// Whether the server says the same about the same field.
    fn is_said_in(&self, answer: &str) -> bool {
        // A rule of a list speaks of the list, not of its entry.
        let list = self.path.rsplit_once('[').map_or(self.path.as_str(), |(list, _)| list);
        answer.contains(&self.message) && answer.contains(list)
    }

    /// `spec.cidrs[]`
    fn place(&self) -> String {
        let mut place = self.path.clone();
        for index in 0..64 {
            place = place.replace(&format!("[{index}]"), "[]");
        }
        place
    }
}

/// Words of the API server for what a schema refuses: then rules are not asked, or need not be.
const OF_SCHEMA: [&str; 12] = [
    "strict decoding error",
    "Unsupported value",
    "Required value",
    "Duplicate value",
    "must be of type",
    "should be greater than or equal to",
    "should be less than or equal to",
    "should have at least",
    "Too long",
    "Too many",
    "some validation rules were not checked",
    "cannot be handled as",
];

#[test]
fn what_one_object_shows_to_be_wrong_is_refused_by_the_server_too() {
    let refused = refused_by_the_daemon();
    let answers = tried(&refused.iter().map(|refused| refused.text.clone()).collect::<Vec<_>>()).unwrap();
    let mut wrong = String::new();
    let mut listed = BTreeSet::new();
    for (refused, answer) in refused.iter().zip(&answers) {
        let Refused { row, text, refusals } = refused;
        let Some(answer) = answer else {
            if !TAKEN.iter().any(|(name, _)| name == row) {
                writeln!(wrong, "taken, and not listed: {row}\n{text}").unwrap();
            }
            listed.insert(*row);
            continue;
        };
        let of_schema = OF_SCHEMA.iter().any(|words| answer.contains(words));
        for refusal in refusals.iter().filter(|refusal| !of_schema && !refusal.is_said_in(answer)) {
            if !OTHER_WORDS.iter().any(|(name, _)| name == row) {
                let Refusal { path, message, .. } = refusal;
                writeln!(wrong, "{row}: {path}: {message}\n  is said as {answer}").unwrap();
            }
            listed.insert(*row);
        }
    }
    for (name, _) in TAKEN.iter().chain(OTHER_WORDS).filter(|(name, _)| !listed.contains(name)) {
        writeln!(wrong, "{name} is listed, and refused in the same words").unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A CEL rule of a CRD and where it stands.
struct Rule {
    kind: String,
    /// `spec.cidrs[]`
    place: String,
    /// What its message says whatever the value is: one of these is part of it.
    words: Vec<String>,
}

impl Rule {
    fn says(&self, refusal: &Refusal) -> bool {
        let place = refusal.place();
        self.kind == refusal.kind
            && (self.place == place || format!("{}[]", self.place) == place)
            && self.words.iter().any(|words| refusal.message.contains(words))
    }
}

fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for definition in api::crd::definitions() {
        let kind = definition.pointer("/spec/names/kind").and_then(Value::as_str).expect("a kind");
        let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema").expect("a schema");
        collect(kind, "", schema, &mut rules);
    }
    rules
}

fn collect(kind: &str, place: &str, schema: &Value, rules: &mut Vec<Rule>) {
    for rule in schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
        let text = |field: &str| rule.get(field).and_then(Value::as_str).unwrap_or_default();
        let words = match text("messageExpression") {
            "" => vec![text("message").to_owned()],
            expression => literals(expression),
        };
        assert!(!words.is_empty(), "{kind} {place}: a message without words");
        let place = format!("{place}{}", text("fieldPath")).trim_start_matches('.').to_owned();
        rules.push(Rule { kind: kind.into(), place, words });
    }
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
        collect(kind, &place, inner, rules);
    }
    if let Some(items) = schema.get("items") {
        collect(kind, &format!("{place}[]"), items, rules);
    }
}

/// The longer texts in a CEL expression.
fn literals(expression: &str) -> Vec<String> {
    let mut literals = Vec::new();
    let mut characters = expression.chars();
    while characters.any(|c| c == '\'') {
        let mut literal = String::new();
        while let Some(c) = characters.next().filter(|c| *c != '\'') {
            literal.push(if c == '\\' { characters.next().expect("something escaped") } else { c });
        }
        literals.push(literal);
    }
    literals.retain(|literal| literal.len() >= 9);
    literals
}

#[test]
fn every_rule_refuses_an_object_with_its_own_words() {
    let mut refused = refused_by_the_daemon();
    for (row, text, lines) in only_here() {
        refused.push(Refused { row, text, refusals: lines.iter().copied().map(refusal).collect() });
    }
    let answers = tried(&refused.iter().map(|refused| refused.text.clone()).collect::<Vec<_>>()).unwrap();
    let mut said = Vec::new();
    for (refused, answer) in refused.into_iter().zip(&answers) {
        let answer = answer.as_deref().unwrap_or_default();
        said.extend(refused.refusals.into_iter().filter(|refusal| refusal.is_said_in(answer)));
    }
    let rules = rules();
    let silent: Vec<String> = rules
        .iter()
        .filter(|rule| !said.iter().any(|refusal| rule.says(refusal)))
        .map(|rule| format!("{} {}: {}", rule.kind, rule.place, rule.words.join(" | ")))
        .collect();
    println!("{} rules, {} refusals word for word", rules.len(), said.len());
    assert!(silent.is_empty(), "no bad object for these rules:\n{}", silent.join("\n"));
    assert!(rules.len() > 90, "only {} rules are left", rules.len());
}

/// Rules may cost what an API server allows them, also for the longest lists it takes.
#[test]
fn objects_as_large_as_the_schema_allows_are_taken() {
    let list =
        |count: u32, entry: &dyn Fn(u32) -> String| (0..count).map(entry).collect::<Vec<_>>().join(", ");
    let prefix = |n: u32| format!("\"fd00:1234:5678:9abc:def0:{n:04x}:ffff:ff00/120\"");
    let address = |n: u32| format!("\"fd00:1234:5678:9abc:def0:{n:04x}:ffff:ffff\"");
    let name = |n: u32| format!("{n:04}{}", "x".repeat(249));
    let requirement =
        |n: u32| format!("{{key: k{n}, operator: In, values: [{}]}}", list(256, &|n| format!("v{n}")));
    let documents = [
        rows::named(
            "NodeNetwork",
            "node-1",
            &format!("addresses: [{}]\npodCIDRs: [{}]", list(64, &address), list(64, &prefix)),
        ),
        rows::network(&format!("listen: {{addresses: [{}]}}", list(64, &address))),
        rows::named("IPPool", "pods", &format!("cidrs: [{}]", list(64, &prefix))),
        rows::named(
            "BGPPeer",
            "rack",
            &format!(
                "neighbor: {{listen: {{ranges: [{}]}}}}\nremoteASN: external\nsourceAddress: {}\nnodeSelector: {{matchExpressions: [{}]}}",
                list(64, &prefix),
                address(0),
                list(64, &requirement)
            ),
        ),
        rows::advertisement(&format!(
            "source: {{static: {{cidrs: [{}]}}}}\npeers: [{}]\nattributes:\n  communities: [{}]\n  largeCommunities: [{}]",
            list(4096, &prefix),
            list(256, &name),
            list(256, &|n| format!("\"65000:{n}\"")),
            list(256, &|n| format!("\"4294967295:4294967295:{n}\""))
        )),
    ];
    assert_eq!(tried(&documents).unwrap(), vec![None; documents.len()]);
}

#[test]
fn kubectl_tells_of_unknown_fields_and_explains_the_known_ones() {
    let typo = rows::peer("pasive: Never");
    let answer = tried(&[typo]).unwrap().swap_remove(0);
    assert!(
        answer.as_ref().is_some_and(|answer| answer.contains("unknown field \"spec.pasive\"")),
        "{answer:?}"
    );
    let explained = SERVER.kubectl(&["explain", "bgpp.spec.nextHop"]).unwrap();
    for words in ["Next hop we advertise. Default Auto: self on eBGP, kept on iBGP.", "- `Keep`: As learned."]
    {
        assert!(explained.contains(words), "{explained}");
    }
    let explained = SERVER.kubectl(&["explain", "nn", "--recursive"]).unwrap();
    assert!(explained.contains("podCIDRs"), "{explained}");
}

#[test]
fn short_names_and_the_category_find_every_kind() {
    for short in ["netcfg", "bgpp", "adv", "ipp", "nn", "towpath"] {
        SERVER.kubectl(&["get", short]).with_context(|| format!("kubectl get {short}")).unwrap();
    }
}

/// Two who own a family each: neither takes the other's away.
#[test]
fn lists_are_merged_by_their_keys() {
    let with = |afi: &str, limit: u32| {
        rows::named(
            "BGPPeer",
            "merged",
            &format!(
                "neighbor: {{address: 10.9.9.9}}\nremoteASN: 65000\nfamilies:\n- {{afi: {afi}, safi: unicast, maxPrefix: {{limit: {limit}}}}}"
            ),
        )
    };
    let folder = tempfile::tempdir().unwrap();
    for (manager, text) in [("one", with("ipv4", 10)), ("other", with("ipv6", 20))] {
        let path = folder.path().join(manager);
        fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        SERVER.kubectl(&["apply", "--server-side", "--field-manager", manager, "-f", &path]).unwrap();
    }
    let peer = SERVER.json(&["get", "bgpp", "merged"]).unwrap();
    let families = peer.pointer("/spec/families").and_then(Value::as_array).unwrap();
    let limits: Vec<_> =
        families.iter().map(|family| family["maxPrefix"]["limit"].as_i64().unwrap()).collect();
    assert_eq!(limits, [10, 20]);
    SERVER.kubectl(&["delete", "bgpp", "merged"]).unwrap();
}
