//! What the documents say can be done: their programs are compiled, their commands name what exists, their links lead
//! somewhere.
#![cfg(feature = "flex")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use composer_nas::prelude::{GpBo, Searcher};

/// A block of code of a document.
struct Block {
    document: PathBuf,
    language: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The paths of all documents, from the root of the crate.
fn documents() -> Vec<PathBuf> {
    let pages = ["docs", "docs/notes"].into_iter().flat_map(|folder| {
        let files = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        files.map(move |name| Path::new(folder).join(name)).filter(|path| path.extension().is_some_and(|e| e == "md"))
    });
    pages.chain(["README.md".into(), "CONTRIBUTING.md".into()]).collect()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for document in documents() {
        let text = read(&document);
        // Every second piece between fences is code.
        for code in text.split("\n```").skip(1).step_by(2) {
            let (language, text) = code.split_once('\n').unwrap();
            blocks.push(Block { document: document.clone(), language: language.into(), text: text.into() });
        }
    }
    blocks
}

/// The commands of all shell blocks: continued lines are one, comments are gone, variables that hold a command are
/// replaced.
fn commands() -> Vec<(PathBuf, String)> {
    let mut commands = Vec::new();
    for Block { document, text, .. } in blocks().into_iter().filter(|block| block.language == "sh") {
        let mut variables = BTreeMap::new();
        for line in text.replace("\\\n", " ").lines() {
            let line = line.split(" #").next().unwrap().trim();
            match line.split_once("=\"") {
                Some((name, value)) if !name.contains(' ') => {
                    variables.insert(format!("${name}"), value.trim_end_matches('"').to_owned());
                }
                _ if line.starts_with('#') => {}
                _ => {
                    let words = line.split_whitespace();
                    let words = words.map(|word| variables.get(word).map_or(word, String::as_str));
                    commands.push((document.clone(), words.collect::<Vec<_>>().join(" ")));
                }
            }
        }
    }
    commands
}

/// The word behind each occurrence of this flag.
fn named(command: &str, flag: &str) -> Vec<String> {
    let words: Vec<_> = command.split_whitespace().collect();
    words.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1].to_owned()).collect()
}

/// What a program of `examples/` says about its arguments; cargo builds it beside the tests.
fn help(example: &str) -> String {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("examples").join(example);
    assert!(program.exists(), "{} is not there: run cargo test without naming single tests", program.display());
    String::from_utf8(Command::new(program).arg("--help").output().unwrap().stdout).unwrap()
}

/// The formatter leaves comments as they are.
#[test]
fn comments_keep_to_the_limit_of_the_formatter() {
    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
    }
    let settings = read("rustfmt.toml");
    let limit = settings.lines().find_map(|line| line.strip_prefix("max_width = ")?.parse::<usize>().ok()).unwrap();
    let sources = ["src", "tests", "examples", "benches"].map(|folder| sources(&root().join(folder))).concat();
    let sources = sources.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let mut long = Vec::new();
    let mut comments = 0;
    for path in sources {
        for (number, line) in (1..).zip(read(path).lines()).filter(|(_, line)| line.trim_start().starts_with("//")) {
            comments += 1;
            if line.chars().count() > limit {
                long.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert!(comments > 5000, "only {comments} lines of comments found");
    assert!(long.is_empty(), "beyond {limit} characters: {long:?}");
}

#[test]
fn programs_in_documents_are_compiled() {
    let library = read("src/lib.rs");
    for Block { document, language, .. } in blocks().iter().filter(|block| block.language.starts_with("rust")) {
        assert!(!language.contains("ignore"), "{} has a program that is not compiled", document.display());
        let included = format!("include_str!(\"../{}\")", document.display());
        assert!(library.contains(&included), "{} is not among the documents of src/lib.rs", document.display());
    }
}

#[test]
fn commands_name_what_exists() {
    let manifest = read("Cargo.toml");
    for (document, command) in commands() {
        let place = format!("{}: {command}", document.display());
        for (flag, folder) in [("--example", "examples"), ("--bench", "benches"), ("--test", "tests")] {
            for name in named(&command, flag) {
                let file = root().join(folder).join(&name);
                assert!(file.with_extension("rs").exists() || file.join("main.rs").exists(), "{place}");
            }
        }
        if command.contains("cargo ") {
            for feature in named(&command, "--features").iter().flat_map(|features| features.split(',')) {
                assert!(manifest.contains(&format!("\n{feature} = ")), "{place}");
            }
        }
    }
}

#[test]
fn commands_give_examples_the_arguments_that_they_take() {
    let mut used: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for (document, command) in commands() {
        let example = named(&command, "--example").pop();
        let copied = command.split_whitespace().find_map(|word| word.strip_prefix("./")).map(ToOwned::to_owned);
        let copied = copied.filter(|name| root().join("examples").join(name).with_extension("rs").exists());
        let arguments = match &example {
            Some(_) => command.split_once(" -- ").map(|(_, arguments)| arguments),
            None => Some(command.as_str()),
        };
        let (Some(example), Some(arguments)) = (example.or(copied), arguments) else { continue };
        // What is quoted is one argument, whatever flags of other programs are in it.
        let arguments = arguments.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        let flags = arguments.split_whitespace().filter(|word| word.starts_with("--"));
        let flags = flags.map(|flag| (flag.split('=').next().unwrap().to_owned(), document.display().to_string()));
        used.entry(example).or_default().extend(flags);
    }
    assert!(used["search"].len() > 10);
    for (example, flags) in used.into_iter().filter(|(_, flags)| !flags.is_empty()) {
        let help = help(&example);
        let known: BTreeSet<_> = help.split(|c: char| !c.is_alphanumeric() && c != '-').collect();
        for (flag, document) in flags {
            assert!(known.contains(flag.as_str()), "{document}: {example} knows no {flag}");
        }
    }
}

#[test]
fn links_lead_to_files() {
    for document in documents() {
        let text = read(&document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if path.is_empty() || path.starts_with("https://") {
                continue;
            }
            let file = document.parent().unwrap().join(path);
            assert!(root().join(&file).exists(), "{} leads to {link}", document.display());
            // From the book's own folder one step up leads out of it, from its notes two.
            let out = if document.starts_with("docs/notes") { "../.." } else { ".." };
            let book = document.starts_with("docs");
            assert!(!book || !path.starts_with(out), "{} leads out of the book to {link}", document.display());
        }
    }
}

#[test]
fn the_book_has_every_page() {
    let summary = read("docs/SUMMARY.md");
    for document in documents().iter().filter(|path| path.starts_with("docs")) {
        let name = document.strip_prefix("docs").unwrap().to_str().unwrap();
        assert!(name == "SUMMARY.md" || summary.contains(&format!("({name})")), "{name} is not in docs/SUMMARY.md");
    }
}

#[test]
fn the_list_of_flags_is_that_of_the_search() {
    let help = help("search");
    let flags = help.split("\n      --").skip(1).map(|entry| {
        let name = entry.split([' ', '\n', '[']).next().unwrap();
        let default = entry.split("[default: ").nth(1).map_or("", |rest| rest.split(']').next().unwrap());
        (format!("--{name}"), default.to_owned())
    });
    let flags: BTreeMap<_, _> = flags.collect();
    let page = read("docs/flags.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `--")).map(|row| {
        let mut cells = row.split('|');
        let name = cells.next().unwrap().split([' ', '`']).next().unwrap();
        (format!("--{name}"), cells.next().unwrap().trim().to_owned())
    });
    let rows: BTreeMap<_, _> = rows.collect();
    assert_eq!(rows, flags);
}

#[test]
fn the_journal_of_the_documents_names_the_default_searcher() {
    let searcher = format!(r#""searcher":"{}""#, GpBo::default().fingerprint());
    assert!(read("docs/journal.md").contains(&searcher), "docs/journal.md lacks {searcher}");
}

#[test]
fn the_version_is_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("CITATION.cff").contains(&format!("\nversion: {version}\n")), "CITATION.cff has another version");
    assert!(read("CHANGELOG.md").contains(&format!("\n## [{version}]")), "CHANGELOG.md has no section {version}");
    let (compatible, _) = version.rsplit_once('.').unwrap();
    for Block { document, text, .. } in blocks().iter().filter(|block| block.language == "toml") {
        for line in text.lines().filter(|line| line.starts_with("composer-nas = ")) {
            assert!(line.contains(&format!("\"{compatible}\"")), "{}: {line}", document.display());
        }
    }
}
