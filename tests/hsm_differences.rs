//! `docs/c-differences.md` names a test for every difference from the C version; each of them must exist.

use std::fs;
use std::path::Path;

#[test]
fn every_difference_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text =
        fs::read_to_string(root.join("docs/c-differences.md")).expect("the table of differences is there");
    let mut rows = 0;
    for (number, line) in text.lines().enumerate() {
        if !line.starts_with('|') || line.starts_with("|--") || line.starts_with("| C ") {
            continue;
        }
        rows += 1;
        let cell = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let references: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!references.is_empty(), "line {} names no test: {line}", number + 1);
        for reference in references {
            let (file, test) =
                reference.split_once("::").unwrap_or_else(|| panic!("not a test: {reference}"));
            let source = fs::read_to_string(root.join(file))
                .unwrap_or_else(|error| panic!("line {}: {file}: {error}", number + 1));
            let name = test.rsplit("::").next().unwrap_or(test);
            let declared = source
                .match_indices(&format!("fn {name}("))
                .any(|(at, _)| source[..at].trim_end().ends_with(']') || source[..at].contains("proptest!"));
            assert!(declared, "line {}: {file} has no test {name}", number + 1);
        }
    }
    assert!(rows > 40, "only {rows} rows were recognised");
}
