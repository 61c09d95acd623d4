//! Every resource in examples/ loads, and means the same to a YAML 1.1 reader.

use std::fs;
use std::path::{Path, PathBuf};

use api::Documents;

/// Files with resources of ours, below examples/.
fn resource_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("can be listed").path();
            let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
            if path.is_dir() {
                folders.push(path);
            } else if yaml && fs::read_to_string(&path).expect("is text").contains("apiVersion: towpath.io/")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "examples/ has moved: these tests look at nothing");
    files
}

/// Files of one folder belong together: a peer's password may be in another file.
#[test]
fn every_resource_in_the_examples_loads() {
    let files = resource_files();
    let mut folders: Vec<PathBuf> =
        files.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect();
    folders.dedup();
    for folder in folders {
        let mut documents = Documents::default();
        for file in files.iter().filter(|file| file.parent() == Some(&folder)) {
            documents.add(&file.display().to_string(), &fs::read(file).unwrap());
        }
        if let Err(problems) = documents.build("example") {
            panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        }
    }
}

/// A block of one document is a configuration of its own, for the node it calls `node1`.
#[test]
fn every_yaml_block_in_the_documents_loads() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut blocks = 0;
    for entry in fs::read_dir(&docs).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for block in text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            // The first two are the lab's, and its own tests read them; the third is built by tests/tests/kube_deploy.rs.
            if ["# topo.clab.yml\n", "# expect.yaml\n", "# kustomization.yaml\n"]
                .iter()
                .any(|title| block.starts_with(title))
            {
                continue;
            }
            blocks += 1;
            assert_eq!(api::file::ambiguous_scalars(block), [], "{}: quote these", path.display());
            let mut documents = Documents::default();
            documents.add(&path.display().to_string(), block.as_bytes());
            let problems = documents.build("node1").err().unwrap_or_default();
            assert!(problems.is_empty(), "{}: {problems:?}", path.display());
        }
    }
    assert!(blocks > 0, "docs/ holds no YAML any more: this test looks at nothing");
}

/// YAML 1.1: `yes`, `on`, octal and base 60; kubectl and many tools read so.
#[test]
fn no_example_holds_a_word_that_yaml_1_1_reads_otherwise() {
    for file in resource_files() {
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(api::file::ambiguous_scalars(&text), [], "{}: quote these", file.display());
    }
}

#[test]
fn ambiguous_words_are_found() {
    let text = "a: yes\nb: [\"yes\", 010, 1:30]\nno: 0x1F\nc: 10.0.0.0/8\nd: 'off'\n";
    assert_eq!(
        api::file::ambiguous_scalars(text),
        [("yes".into(), 1), ("010".into(), 2), ("1:30".into(), 2), ("no".into(), 3), ("0x1F".into(), 3)]
    );
}
