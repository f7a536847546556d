//! Where a hat and its wearer have their files and units: names that were checked before they become either.

use std::path::{Path, PathBuf};

use hatrack_api::cluster_node::{HatAssignment, is_label};

/// The place of one binding. It exists for names alone that can be parts of a path and of a unit's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Name of the hat.
    pub hat: String,
    /// UID of the binding.
    pub binding: String,
}

impl Seat {
    /// The place of an assignment, or why it has none.
    pub fn of(assignment: &HatAssignment) -> Result<Self, String> {
        let HatAssignment { name, binding, wearer, .. } = assignment;
        if !is_label(name) {
            return Err(format!("the hat's name {name:?} is no DNS label: nothing is started for it"));
        }
        if !is_label(binding) {
            return Err(format!("the binding's uid {binding:?} cannot be a file name: nothing is started for it"));
        }
        if !is_spiffe_id(wearer) {
            return Err(format!("the wearer {wearer:?} is no SPIFFE id: nothing is started for it"));
        }
        Ok(Self { hat: name.clone(), binding: binding.clone() })
    }

    /// The unit that is active while the hat is worn here.
    pub fn target(hat: &str) -> String {
        format!("hat@{hat}.target")
    }

    /// What the wearer's services read.
    pub fn file(&self, folder: &Path, extension: &str) -> PathBuf {
        folder.join(&self.hat).join(format!("{}.{extension}", self.binding))
    }
}

fn is_spiffe_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    text.strip_prefix("spiffe://").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(name: &str, binding: &str, wearer: &str) -> Result<Seat, String> {
        let assignment = serde_json::json!({"name": name, "binding": binding, "wearer": wearer, "phase": "Active"});
        Seat::of(&serde_json::from_value(assignment).unwrap())
    }

    #[test]
    fn a_name_that_leads_elsewhere_has_no_place() {
        let wearer = "spiffe://cluster.local/ns/a/sa/b";
        let good = seat("repair", "0b5c2f0e-0000-4000-8000-000000000001", wearer).unwrap();
        let file = good.file(Path::new("/run/hatrack/hats"), "env");
        assert_eq!(file, Path::new("/run/hatrack/hats/repair/0b5c2f0e-0000-4000-8000-000000000001.env"));
        assert_eq!(Seat::target(&good.hat), "hat@repair.target");
        for bad in ["", "..", "a/b", "a.b", "-a", "a-", "A", "a\n", "a@b", &"a".repeat(64)] {
            assert!(seat(bad, "a", wearer).unwrap_err().contains("is no DNS label"), "{bad}");
            assert!(seat("a", bad, wearer).unwrap_err().contains("cannot be a file name"), "{bad}");
        }
        for bad in ["", "spiffe://", "someone", "spiffe://a/b\nLD_PRELOAD=/x", "spiffe://a/$(b)"] {
            assert!(seat("a", "b", bad).unwrap_err().contains("is no SPIFFE id"), "{bad}");
        }
    }
}
