//! Who may know whom.

use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// Lines of code, not of comments, that hold one of `words`.
fn offenders(files: impl IntoIterator<Item = PathBuf>, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if let Some(word) = words.iter().find(|word| code.contains(**word)) {
                found.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    found
}

#[test]
fn the_engine_is_pure() {
    let words =
        ["tokio", "std::fs", "std::net", "Instant", "SystemTime", "tracing", "println!", "crate::store"];
    assert_eq!(offenders(sources("src/engine"), &words), Vec::<String>::new());
}

#[test]
fn one_file_knows_yaml() {
    let files = sources("src").into_iter().filter(|file| !file.ends_with("config/load.rs"));
    assert_eq!(offenders(files, &["serde_yaml"]), Vec::<String>::new());
}

#[test]
fn only_commands_print() {
    let files = sources("src").into_iter().filter(|file| {
        let file = file.to_string_lossy();
        !file.contains("/commands/") && !file.ends_with("src/main.rs") && !file.contains("/bin/")
    });
    assert_eq!(offenders(files, &["println!", "print!(", "stdout()"]), Vec::<String>::new());
}
