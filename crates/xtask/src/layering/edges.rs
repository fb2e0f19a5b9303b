//! Which crate of the workspace may use which others.

/// The arrows of docs/architecture.md: a crate may use those it points at and all below them.
const ARROWS: &[(&str, &[&str])] = &[
    ("vd-cli", &["vd-train", "vd-eval", "vd-text-cond", "vd-data"]),
    ("vd-train", &["vd-text-cond", "vd-data"]),
    ("vd-eval", &["vd-tensor-ops"]),
    ("vd-data", &["vd-tensor-ops"]),
    ("vd-text-cond", &["vd-diffusion"]),
    ("vd-diffusion", &["vd-unet3d"]),
    ("vd-unet3d", &["vd-tensor-ops"]),
    ("vd-tensor-ops", &["vd-torch"]),
    ("vd-torch", &[]),
    ("vd-examples", &["vd-cli"]),
    ("vd-benches", &["vd-cli"]),
    ("xtask", &[]),
];

/// It sets the machine up, so it must build without any dependency, even from the registry.
const DEPENDS_ON_NOTHING: &str = "xtask";

/// Parses `cargo tree --prefix depth --depth 1`: each crate with its direct dependencies.
pub(super) fn parse(tree: &str) -> Vec<(String, Vec<String>)> {
    let mut edges: Vec<(String, Vec<String>)> = Vec::new();
    for line in tree.lines() {
        // `0vd-data v0.1.0 (/path)` followed by lines such as `1tch v0.24.0`
        let name = line.get(1..).and_then(|rest| rest.split_whitespace().next());
        match (line.as_bytes().first(), name, edges.last_mut()) {
            (Some(b'0'), Some(name), _) => edges.push((name.to_owned(), Vec::new())),
            (Some(b'1'), Some(name), Some((_, uses))) => uses.push(name.to_owned()),
            _ => {}
        }
    }
    edges
}

/// One line for each edge that is not in the table.
pub(super) fn violations(edges: &[(String, Vec<String>)]) -> Vec<String> {
    let in_workspace = |name: &str| edges.iter().any(|(krate, _)| krate == name);
    let mut found = Vec::new();
    for (krate, uses) in edges {
        let Some(allowed) = below(krate) else {
            found.push(format!("{krate} is in no layer: add it to the table"));
            continue;
        };
        for used in uses {
            if krate == DEPENDS_ON_NOTHING {
                found.push(format!("{krate} uses {used}, but must build without any crate"));
            } else if in_workspace(used) && used != krate && !allowed.contains(&used.as_str()) {
                found.push(format!("{krate} uses {used}, which is not in a lower layer"));
            }
        }
    }
    found
}

/// Everything below a crate: `None` if it is not in the table.
fn below(krate: &str) -> Option<Vec<&'static str>> {
    let (_, pointed_at) = ARROWS.iter().find(|(name, _)| *name == krate)?;
    let mut reached = pointed_at.to_vec();
    for next in *pointed_at {
        reached.extend(below(next)?);
    }
    Some(reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
0vd-unet3d v0.1.0 (/w/crates/vd-unet3d)
1tch v0.24.0
1vd-tensor-ops v0.1.0 (/w/crates/vd-tensor-ops)
1vd-diffusion v0.1.0 (/w/crates/vd-diffusion)

0vd-diffusion v0.1.0 (/w/crates/vd-diffusion)
1vd-torch v0.1.0 (/w/crates/vd-torch)
1serde v1.0.0 (*)

0vd-tensor-ops v0.1.0 (/w/crates/vd-tensor-ops)

0vd-torch v0.1.0 (/w/crates/vd-torch)
";

    #[test]
    fn an_edge_upward_is_found_and_a_far_one_downward_is_not() {
        let found = violations(&parse(TREE));
        assert_eq!(found, ["vd-unet3d uses vd-diffusion, which is not in a lower layer"]);
    }

    #[test]
    fn an_edge_between_neighbours_of_one_height_is_found() {
        let found =
            violations(&parse("0vd-data v0 (/w)\n1vd-unet3d v0 (/w)\n\n0vd-unet3d v0 (/w)"));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn an_unknown_crate_is_found() {
        assert_eq!(violations(&parse("0vd-new v0.1.0 (/w)\n")).len(), 1);
    }

    #[test]
    fn this_crate_uses_nothing_at_all() {
        assert_eq!(violations(&parse("0xtask v0.1.0 (/w)\n")), Vec::<String>::new());
        assert_eq!(violations(&parse("0xtask v0.1.0 (/w)\n1serde v1.0.0\n")).len(), 1);
    }

    #[test]
    fn the_table_has_no_circle_and_names_only_what_it_holds() {
        for (krate, _) in ARROWS {
            let reached = below(krate);
            assert!(reached.is_some_and(|all| !all.contains(krate)), "{krate}");
        }
    }
}
