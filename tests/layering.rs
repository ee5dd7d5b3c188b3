//! The modules in `lib.rs` stand in the order in which data flows, and a module uses only itself and those above it.
//! Within a module, its files do not use each other in circles.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A module by what stands behind `crate::`.
type Module = Vec<String>;

/// The modules of `lib.rs`, in order.
fn order() -> Vec<String> {
    let lib = fs::read_to_string("src/lib.rs").unwrap();
    let modules = lib.lines().filter_map(|line| {
        let line = line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub ")).unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    modules.map(Into::into).collect()
}

fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.into()];
    }
    let entries = fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|entry| sources(&entry)).collect()
}

/// What a file holds without comments and without items for tests, which may use anything.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test,") {
            let item = lines.by_ref().find(|line| !line.starts_with("#["));
            if item.is_some_and(|item| !item.ends_with([';', '}'])) {
                lines.by_ref().find(|line| line.starts_with('}'));
            }
        } else if !line.trim_start().starts_with("//") {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

/// All modules below `lib.rs` with their code, except unit tests in files named `tests.rs`.
fn modules() -> BTreeMap<Module, String> {
    let files = sources(Path::new("src")).into_iter().filter(|file| file.extension().is_some_and(|end| end == "rs"));
    let files = files.filter(|file| !file.ends_with("src/lib.rs") && !file.ends_with("tests.rs"));
    let module = |file: PathBuf| {
        let name = file.with_extension("");
        let name = if name.ends_with("mod") { name.parent().unwrap() } else { &name };
        let parts = name.iter().skip(1).map(|part| part.to_str().unwrap().to_owned());
        (parts.collect(), code(&fs::read_to_string(&file).unwrap()))
    };
    files.map(module).collect()
}

/// The parts of a list in braces, which may hold such lists.
fn parts(list: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = list.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// The paths of a `use`, one per name.
fn paths(tree: &str) -> Vec<Vec<&str>> {
    let (start, rest) = match tree.split_once('{') {
        None => (tree, None),
        Some((start, rest)) => (start, rest.rsplit_once('}')),
    };
    let start: Vec<_> = start.split("::").map(str::trim).filter(|part| !part.is_empty()).collect();
    let Some((list, _)) = rest else { return vec![start] };
    let ends = parts(list).into_iter().flat_map(paths);
    ends.map(|end| [start.as_slice(), &end].concat()).collect()
}

/// The paths of all `use`s.
fn uses(code: &str) -> Vec<Vec<&str>> {
    let uses = code.match_indices("use ").filter_map(|(at, word)| {
        let before = &code[..at];
        let after = &code[at + word.len()..];
        before.chars().next_back().is_none_or(char::is_whitespace).then(|| after.split(';').next()).flatten()
    });
    uses.flat_map(paths).filter(|path| !path.is_empty()).collect()
}

/// The modules of `lib.rs` that are named behind `crate::`, in a `use` or anywhere else.
fn tops(code: &str) -> BTreeSet<&str> {
    let listed = uses(code).into_iter().filter_map(|path| path.strip_prefix(&["crate"])?.first().copied());
    let name = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let anywhere = code.split("crate::").skip(1).map(|text| &text[..name(text)]).filter(|name| !name.is_empty());
    listed.chain(anywhere).collect()
}

/// What the `use`s of a module name, by what stands behind `crate::`.
fn named(module: &Module, code: &str) -> Vec<Module> {
    let absolute = |path: Vec<&str>| {
        let up = path.iter().take_while(|&&part| part == "super").count();
        let base = if path[0] == "crate" { &[] } else { &module[..module.len().saturating_sub(up)] };
        let rest = path.into_iter().filter(|part| !["crate", "super", "self"].contains(part));
        let rest = rest.filter_map(|part| part.split(" as ").next()).map(str::to_owned);
        base.iter().cloned().chain(rest).collect()
    };
    uses(code).into_iter().map(absolute).collect()
}

/// Which files use which others of the same module of `lib.rs`. Files with a folder of their own are left out: they
/// declare what the files in it implement.
fn graph(modules: &BTreeMap<Module, String>) -> BTreeMap<&Module, BTreeSet<&Module>> {
    // The innermost module on the way to a name, and the name.
    let place = |path: &Module| {
        let length = (1..=path.len()).rev().find(|&length| modules.contains_key(&path[..length]))?;
        let (module, _) = modules.get_key_value(&path[..length])?;
        Some((module, path.get(length).cloned().unwrap_or_default()))
    };
    let named: BTreeMap<_, _> = modules.iter().map(|(module, code)| (module, named(module, code))).collect();
    let is_root = |module: &Module| modules.keys().any(|other| other.len() > module.len() && other.starts_with(module));
    // Where a module has a name from that it has not defined itself.
    let mut origins = BTreeMap::new();
    for (module, paths) in &named {
        for path in paths {
            let name = path.last().cloned().unwrap_or_default();
            origins.extend(place(path).filter(|(from, _)| from != module).map(|(from, _)| ((*module, name), from)));
        }
    }
    let origin = |(mut module, name): (&'_ Module, String)| {
        let mut seen = BTreeSet::new();
        while let Some(&from) = origins.get(&(module, name.clone())).filter(|_| seen.insert(module)) {
            module = from;
        }
        modules.get_key_value(module).map(|(module, _)| module)
    };
    let mut graph: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (&module, paths) in named.iter().filter(|(module, _)| !is_root(module)) {
        let used = paths.iter().filter_map(|path| origin(place(path)?));
        let used = used.filter(|used| used[0] == module[0] && *used != module && !is_root(used));
        graph.insert(module, used.collect());
    }
    graph
}

/// The nodes from which one comes back to a circle: what is left when those that lead nowhere are taken away.
fn circular<'a>(mut graph: BTreeMap<&'a Module, BTreeSet<&'a Module>>) -> BTreeMap<&'a Module, BTreeSet<&'a Module>> {
    loop {
        let left: BTreeSet<_> = graph.keys().copied().collect();
        graph.values_mut().for_each(|used| used.retain(|module| left.contains(module)));
        graph.retain(|_, used| !used.is_empty());
        if graph.len() == left.len() {
            return graph;
        }
    }
}

#[test]
fn a_module_uses_only_modules_above_it() {
    let order = order();
    assert!(order.len() > 12, "{order:?}");
    let modules = modules();
    assert!(order.iter().all(|module| modules.contains_key(&vec![module.clone()])), "a module has no source");
    let mut edges = 0;
    for (module, code) in &modules {
        let place = order.iter().position(|known| *known == module[0]).unwrap();
        for name in tops(code) {
            let above = order.iter().position(|known| *known == name);
            let above = above.unwrap_or_else(|| panic!("{} uses crate::{name}, no module", module.join("::")));
            assert!(above <= place, "{} uses {name}, which stands below it in lib.rs", module.join("::"));
            edges += usize::from(above < place);
        }
    }
    assert!(edges > 50, "only {edges} uses found: the reading of `use crate::` lines is broken");
}

#[test]
fn files_of_a_module_do_not_use_each_other_in_circles() {
    let modules = modules();
    let graph = graph(&modules);
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    assert!(edges > 200, "only {edges} uses found: the reading of `use super::` lines is broken");
    let circular = circular(graph);
    let lines = circular.iter().map(|(module, used)| {
        let used: Vec<_> = used.iter().map(|used| used.join("::")).collect();
        format!("{} uses {}\n", module.join("::"), used.join(", "))
    });
    assert!(circular.is_empty(), "files go round in circles:\n{}", lines.collect::<String>());
}

/// The names of types and traits that a public module offers, by re-export or by definition.
fn offered(code: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for line in code.split(';') {
        if let Some(tree) = line.trim_start().strip_prefix("pub use ") {
            names.extend(paths(tree).into_iter().filter_map(|path| path.last().copied()));
        }
    }
    for kind in ["struct", "enum", "trait", "type"] {
        let lines = code.lines().filter_map(|line| line.strip_prefix("pub ")?.strip_prefix(kind)?.strip_prefix(' '));
        names.extend(lines.filter_map(|line| line.split(|c: char| !c.is_alphanumeric()).next()));
    }
    names.retain(|name| name.starts_with(char::is_uppercase));
    names
}

#[test]
fn a_public_name_has_one_meaning() {
    let modules = modules();
    let lib = fs::read_to_string("src/lib.rs").unwrap();
    let is_public = |module: &Module| {
        (0..module.len()).all(|depth| {
            let parent = if depth == 0 { Some(&lib) } else { modules.get(&module[..depth]) };
            let declaration = format!("pub mod {};", module[depth]);
            parent.is_some_and(|code| code.lines().any(|line| line == declaration))
        })
    };
    let mut meanings: BTreeMap<&str, Vec<&Module>> = BTreeMap::new();
    for (module, code) in modules.iter().filter(|(module, _)| is_public(module)) {
        offered(code).into_iter().for_each(|name| meanings.entry(name).or_default().push(module));
    }
    assert!(meanings.len() > 200 && meanings["Primitives"] == [&vec!["primitive".to_owned()]], "{meanings:?}");
    // A module may offer what a module in it offers: that is one meaning.
    meanings.retain(|_, modules| modules.iter().any(|module| !module.starts_with(modules[0])));
    assert!(meanings.is_empty(), "name the meanings apart: {meanings:?}");
}

#[test]
fn the_reading_of_use_lines_is_right() {
    let text = "use crate::{\n    a::{b, c},\n    d,\n};\nuse crate::e::F;\n#[cfg(test)]\nmod x;\ncrate::g::h()\n\
        #[cfg(test)]\nmod tests {\n    use crate::i;\n}\n// use crate::j;\nuse crate::k;\n";
    assert_eq!(tops(&code(text)).into_iter().collect::<Vec<_>>(), ["a", "d", "e", "g", "k"]);
    let module = ["a", "b"].map(str::to_owned).to_vec();
    let named = named(&module, "use super::{C, d::{self, E as F}};\npub use g::H;");
    assert_eq!(named.iter().map(|path| path.join("::")).collect::<Vec<_>>(), ["a::C", "a::d", "a::d::E", "a::b::g::H"]);
}

#[test]
fn circles_are_found_through_other_names() {
    let file = |path: &str, code: &str| (path.split("::").map(str::to_owned).collect::<Module>(), code.to_owned());
    let with = |last: &str| {
        BTreeMap::from([
            file("a", "mod b;\nmod c;\nmod d;\npub use b::B;\npub use self::c::C;"),
            file("a::b", "use super::C;"),
            file("a::c", "use super::d::D;"),
            file("a::d", last),
        ])
    };
    assert!(circular(graph(&with("use std::fmt;"))).is_empty());
    for last in ["use super::B;", "use crate::a::{B};", "use super::b;"] {
        assert_eq!(circular(graph(&with(last))).len(), 3, "{last}");
    }
}
