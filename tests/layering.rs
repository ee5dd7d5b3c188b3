//! The modules in `lib.rs` stand in the order in which data flows, and a module uses only itself and those above it.

use std::{
    fs,
    path::{Path, PathBuf},
};

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

/// The modules named behind `crate::`, alone or in braces.
fn used(code: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.push(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (end, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    names.push(name(group[start..end].trim()));
                    start = end + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn a_module_uses_only_modules_above_it() {
    let order = order();
    assert!(order.len() > 12, "{order:?}");
    let mut edges = 0;
    for (place, module) in order.iter().enumerate() {
        let folder = Path::new("src").join(module);
        let files = if folder.is_dir() { sources(&folder) } else { sources(&folder.with_extension("rs")) };
        assert!(!files.is_empty(), "{module} has no source");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            // Unit tests stand at the end of a file and may use anything.
            let code = text
                .lines()
                .take_while(|line| !line.starts_with("#[cfg(test)]") && !line.starts_with("#[cfg(all(test,"));
            let code: Vec<_> = code.filter(|line| !line.trim_start().starts_with("//")).collect();
            for name in used(&code.join("\n")) {
                let above = order.iter().position(|known| *known == name);
                let above = above.unwrap_or_else(|| panic!("{} uses crate::{name}, no module", file.display()));
                assert!(above <= place, "{} uses {name}, which stands below {module} in lib.rs", file.display());
                edges += usize::from(above < place);
            }
        }
    }
    assert!(edges > 50, "only {edges} uses found: the reading of `use crate::` lines is broken");
}

#[test]
fn the_reading_of_use_lines_is_right() {
    let code = "use crate::{\n    a::{b, c},\n    d,\n};\nuse crate::e::F; crate::g::h()";
    assert_eq!(used(code), ["a", "d", "e", "g"]);
}
