//! The revision of a folder: a digest over its files and the images that they run. Stands alone because hosts keep
//! folders by it: what goes into it must not change by accident.

use sha2::{Digest as _, Sha256};

use super::{Files, Image, Revision};

/// The revision of files and images.
pub(super) fn of<'i>(files: &Files, images: impl Iterator<Item = &'i Image>) -> Revision {
    let mut digest = Sha256::new();
    let mut field = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    for (path, file) in files {
        field(path.as_bytes());
        field(&file.mode.to_be_bytes());
        field(&file.content);
    }
    for image in images {
        field(image.pinned.as_bytes());
        field(image.id.as_deref().unwrap_or_default().as_bytes());
    }
    let digest = digest.finalize();
    Revision(
        digest[..6]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::File;

    #[test]
    fn every_part_counts() {
        let file = |mode, content: &str| File {
            mode,
            content: content.into(),
            secret: false,
        };
        let image = |id: &str| Image {
            reference: "a:1".into(),
            pinned: "a@sha256:1".into(),
            id: Some(id.into()),
            sent: false,
        };
        let one = |path: &str, mode, content: &str, id: &str| {
            let files = Files::from([(path.to_owned(), file(mode, content))]);
            of(&files, [image(id)].iter())
        };
        let first = one("a", 0o600, "x", "1");
        assert_eq!(first.0.len(), 12);
        assert_eq!(first, one("a", 0o600, "x", "1"));
        for other in [
            one("b", 0o600, "x", "1"),
            one("a", 0o644, "x", "1"),
            one("a", 0o600, "y", "1"),
            one("a", 0o600, "x", "2"),
        ] {
            assert_ne!(first, other);
        }
    }
}
