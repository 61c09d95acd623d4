//! `towpath lab graph`: a lab as a picture or as text.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::lab_name;
use crate::Lab;
use crate::file::topology::Topology;
use crate::graph::Graph;

/// What to draw and how.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// Topology file, its folder, or the name of a running lab.
    #[arg(default_value = ".")]
    lab: String,
    /// Form; without it by the file's name: .svg, .dot or .gv, .mmd, else text.
    #[arg(short = 'o', long = "form", value_enum)]
    form: Option<Form>,
    /// Short for `-o dot`.
    #[arg(long, conflicts_with_all = ["form", "mermaid"])]
    dot: bool,
    /// Short for `-o mermaid`.
    #[arg(long, conflicts_with = "form")]
    mermaid: bool,
    /// Write to this file; otherwise to standard output.
    #[arg(long = "output", value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Form of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A picture.
    Svg,
    /// For a terminal.
    Text,
    /// For Graphviz.
    Dot,
    /// For Mermaid, as in Markdown on GitHub.
    Mermaid,
}

impl Form {
    fn of(file: Option<&Path>) -> Self {
        let suffix = file.and_then(Path::extension).unwrap_or_default();
        match suffix.to_str() {
            Some("svg") => Self::Svg,
            Some("dot" | "gv") => Self::Dot,
            Some("mmd" | "mermaid") => Self::Mermaid,
            _ => Self::Text,
        }
    }
}

pub(super) fn graph(arguments: &GraphArgs) -> anyhow::Result<()> {
    let form = match arguments {
        GraphArgs { dot: true, .. } => Form::Dot,
        GraphArgs { mermaid: true, .. } => Form::Mermaid,
        GraphArgs { form, file, .. } => form.unwrap_or_else(|| Form::of(file.as_deref())),
    };
    let graph = match Lab::running(&lab_name(&arguments.lab)?) {
        Ok(lab) => Graph::running(&lab),
        Err(_) => Graph::of(&Topology::read(Path::new(&arguments.lab))?),
    };
    for problem in graph.problems.iter().filter(|_| form != Form::Text) {
        eprintln!("warning: {problem}");
    }
    let text = match form {
        Form::Svg => graph.svg(),
        Form::Text => graph.text(),
        Form::Dot => graph.dot(),
        Form::Mermaid => graph.mermaid(),
    };
    match &arguments.file {
        Some(file) => std::fs::write(file, text).with_context(|| format!("writing {}", file.display())),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}
