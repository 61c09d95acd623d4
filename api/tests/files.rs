//! Files, folders and hostile texts.

use std::fs;
use std::path::{Path, PathBuf};

use api::{Documents, Problem, load};

const PEER: &str = "apiVersion: towpath.io/v1alpha1\nkind: BGPPeer\nmetadata: {name: NAME}\nspec:\n  neighbor: {address: ADDRESS}\n  remoteASN: 65000\n";

fn peer(name: &str, address: &str) -> String {
    PEER.replace("NAME", name).replace("ADDRESS", address)
}

fn names(paths: &[PathBuf]) -> Vec<String> {
    load(paths, "node-1").expect("loads").peers.into_iter().map(|peer| peer.name).collect()
}

fn lines(problems: Vec<Problem>, folder: &Path) -> Vec<String> {
    let prefix = format!("{}/", folder.display());
    problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}

fn refused(bytes: &[u8]) -> Vec<String> {
    let mut documents = Documents::default();
    documents.add("f", bytes);
    documents.build("node-1").expect_err("is refused").iter().map(ToString::to_string).collect()
}

#[test]
fn a_folder_gives_its_yaml_files_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("20-b.yml", &peer("b", "10.0.0.2"));
    write("10-a.yaml", &peer("a", "10.0.0.1"));
    for ignored in
        [".a.yaml.swp", ".hidden.yaml", "a.yaml~", "#a.yaml#", "#b.yaml", ".#a.yaml", "4913", "topo.json"]
    {
        write(ignored, "not: [yaml");
    }
    fs::create_dir(folder.path().join("more.yaml")).unwrap();
    write("more.yaml/c.yaml", &peer("c", "10.0.0.3"));
    assert_eq!(names(&[folder.path().into()]), ["a", "b"]);
}

#[test]
fn a_file_named_twice_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, peer("a", "10.0.0.1")).unwrap();
    assert_eq!(names(&[folder.path().into(), file]), ["a"]);
}

#[test]
fn the_problems_of_all_files_come_together_sorted() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b.yaml"), peer("b", "10.0.0.300")).unwrap();
    fs::write(folder.path().join("a.yaml"), peer("a", "10.0.0.1") + "  paused: yes\n  hold: 9s\n").unwrap();
    fs::write(folder.path().join("c.yaml"), b"a: 1\nb: \xff\n").unwrap();
    let problems = load(&[folder.path().into()], "node-1").expect_err("is refused");
    assert_eq!(
        lines(problems, folder.path()),
        [
            "a.yaml:7: BGPPeer/a spec.paused: yes is not allowed; write true, without quotes",
            "a.yaml:8: BGPPeer/a spec.hold: unknown field here; it belongs under timers",
            "b.yaml:5: BGPPeer/b spec.neighbor.address: 10.0.0.300 is no address; use an IPv4 or IPv6 address",
            "c.yaml:2: is not UTF-8 text; save it as UTF-8",
        ]
    );
}

#[test]
fn duplicates_in_two_files_name_both_places() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), peer("tor", "10.0.0.1")).unwrap();
    fs::write(folder.path().join("b.yaml"), peer("tor", "10.0.0.2")).unwrap();
    let problems = load(&[folder.path().into()], "node-1").expect_err("is refused");
    assert_eq!(
        lines(problems, folder.path()),
        [
            "b.yaml:3: BGPPeer/tor metadata.name: a BGPPeer named tor is given twice; rename or remove one (first in a.yaml:3)"
        ]
    );
}

#[test]
fn what_cannot_be_read_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large.yaml");
    fs::write(&large, vec![b'#'; 4 * 1024 * 1024 + 1]).unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let problems = load(&[folder.path().join("none.yaml"), large, empty], "node-1").expect_err("is refused");
    assert_eq!(
        lines(problems, folder.path()),
        [
            "empty: the folder has no *.yaml or *.yml file; put one there",
            "large.yaml: is larger than 4 MiB; split it",
            "none.yaml: cannot be read: No such file or directory (os error 2)",
        ]
    );
}

#[test]
fn byte_order_marks_line_ends_comments_and_empty_documents_do_not_matter() {
    let text = format!(
        "\u{feff}---\n# first\n---\n{}---\n---\n{}...\n",
        peer("a", "10.0.0.1"),
        peer("b", "10.0.0.2")
    );
    for text in [text.clone(), text.replace('\n', "\r\n")] {
        let mut documents = Documents::default();
        documents.add("f", text.as_bytes());
        assert_eq!(documents.build("node-1").expect("builds").peers.len(), 2);
    }
}

#[test]
fn lines_are_right_behind_windows_line_ends() {
    let text = peer("a", "10.0.0.300").replace('\n', "\r\n");
    assert!(refused(text.as_bytes())[0].starts_with("f:5: BGPPeer/a spec.neighbor.address"));
}

#[test]
fn an_alias_gives_the_value_of_its_anchor() {
    let text = peer("a", "10.0.0.1") + "  timers: &t {hold: 9s}\n---\n" + &peer("b", "10.0.0.2");
    let mut documents = Documents::default();
    documents.add("f", (text + "  sourceInterface: &i eth0\n  bindInterface: *i\n").as_bytes());
    assert_eq!(documents.build("node-1").expect("builds").peers[1].bind_interface.as_deref(), Some("eth0"));
}

#[test]
fn an_alias_bomb_is_refused_before_it_grows() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let inner = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [inner.as_str(); 10].join(", "));
    }
    let lines = refused(bomb.as_bytes());
    assert!(lines[0].ends_with("more than 100000 values, aliases included; split the file"), "{lines:?}");
}

#[test]
fn depth_and_number_of_values_are_limited() {
    let deep = "[".repeat(100);
    assert!(refused(deep.as_bytes())[0].contains("nested deeper than 64 levels"));
    let deep = (0..100).map(|level| " ".repeat(level) + "a:\n").collect::<String>();
    assert!(refused(deep.as_bytes())[0].contains("nested deeper than 64 levels"));
    let many = "- a\n".repeat(100_001);
    assert!(refused(many.as_bytes())[0].contains("more than 100000 values"));
    let chain = (1..200).fold("a0: &a0 [x]\n".to_owned(), |text, level| {
        text + &format!("a{level}: &a{level} [*a{}]\n", level - 1)
    });
    assert!(refused(chain.as_bytes())[0].contains("nested deeper than 64 levels"));
}

#[test]
fn an_object_read_back_from_a_cluster_loads() {
    let text = "apiVersion: towpath.io/v1alpha1\nkind: BGPPeer\nmetadata:\n  name: tor\n  uid: 0b7f\n  resourceVersion: \"7\"\n  \
                creationTimestamp: 2026-01-01T00:00:00Z\n  labels: {app: towpath}\n  annotations: {a/b: c}\n  managedFields: [{a: b}]\nspec:\n  \
                neighbor: {address: 10.0.0.1}\n  remoteASN: 65000\nstatus:\n  conditions: [{type: Accepted}]\n";
    let mut documents = Documents::default();
    documents.add("f", text.as_bytes());
    assert_eq!(documents.build("node-1").expect("builds").peers.len(), 1);
}

/// Each of these would take minutes if every entry were compared with every other.
#[test]
fn forty_thousand_entries_take_no_square_of_time() {
    let prefixes = |first: u8| {
        (0..40_000_u32).map(|n| format!("    - {first}.{}.{}.0/24\n", n >> 8, n & 255)).collect::<String>()
    };
    let mut documents = Documents::default();
    let head = "apiVersion: towpath.io/v1alpha1\nmetadata: {name: default}\n";
    documents.add(
        "s",
        format!("{head}kind: Advertisement\nspec:\n  source:\n   static:\n    cidrs:\n{}", prefixes(11))
            .as_bytes(),
    );
    documents.add("p", format!("{head}kind: IPPool\nspec:\n    cidrs:\n{}", prefixes(12)).as_bytes());
    documents.add(
        "r",
        format!(
            "{head}kind: BGPPeer\nspec:\n  remoteASN: any\n  neighbor:\n   listen:\n    ranges:\n{}",
            prefixes(13)
        )
        .as_bytes(),
    );
    let state = documents.build("node-1").expect("builds");
    assert_eq!(state.pod_ranges.len(), 40_000);
    let wrong = "- {afi: no, x: y}\n  ".repeat(14_000);
    let text = format!(
        "{head}kind: BGPPeer\nspec:\n  remoteASN: any\n  neighbor: {{address: 10.0.0.1}}\n  families:\n  {wrong}"
    );
    assert!(refused(text.as_bytes()).len() > 40_000);
}
