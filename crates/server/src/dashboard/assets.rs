//! The files of the page. Invariant: the name of a file that a browser may keep for ever tells its content, so a new version
//! of the service never meets an old file; all references are relative, so that the page works behind any prefix.

use std::{io::Write, sync::LazyLock};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

/// A file of the page.
pub(crate) struct Asset {
    pub(crate) content_type: &'static str,
    pub(crate) plain: Bytes,
    /// `None` if compression does not make it shorter.
    pub(crate) gzip: Option<Bytes>,
    /// Tells the content: of the page for `ETag`, of the others in their names.
    pub(crate) hash: String,
}

/// The page, with references to the names that tell the content.
const PAGE: &str = include_str!("page/index.html");

/// The script. Its parts share one scope; each uses only those above it.
const SCRIPT: &str = concat!(
    include_str!("page/format.js"),
    include_str!("page/charts.js"),
    include_str!("page/stream.js"),
    include_str!("page/panels.js"),
    include_str!("page/records.js"),
    include_str!("page/actions.js"),
    include_str!("page/dashboard.js"),
);

/// The files that the page refers to as `dashboard/NAME`.
const FILES: [(&str, &str, &[u8]); 2] = [
    (
        "dashboard.css",
        "text/css; charset=utf-8",
        include_bytes!("page/dashboard.css"),
    ),
    ("dashboard.js", "text/javascript; charset=utf-8", SCRIPT.as_bytes()),
];

/// The prepared files. Made when the first browser asks, because that takes some milliseconds and most processes serve none.
static ASSETS: LazyLock<Assets> = LazyLock::new(Assets::prepare);

struct Assets {
    page: Asset,
    /// By the names that tell the content.
    files: Vec<(String, Asset)>,
}

/// Returns the page.
pub(crate) fn page() -> &'static Asset {
    &ASSETS.page
}

/// Returns the file of this name, which tells its content.
pub(crate) fn asset(name: &str) -> Option<&'static Asset> {
    let files = ASSETS.files.iter();
    files.filter(|(its, _)| its == name).map(|(_, file)| file).next()
}

impl Assets {
    fn prepare() -> Self {
        let mut page = PAGE.to_owned();
        let file = |(name, content_type, content): &(&str, &'static str, &'static [u8])| {
            let asset = Asset::new(content_type, Bytes::from_static(content));
            let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
            let hashed = format!("{stem}.{}.{extension}", asset.hash);
            page = page.replace(&format!("\"dashboard/{name}\""), &format!("\"dashboard/{hashed}\""));
            (hashed, asset)
        };
        let files = FILES.iter().map(file).collect();
        Self {
            page: Asset::new("text/html; charset=utf-8", Bytes::from(page)),
            files,
        }
    }
}

impl Asset {
    fn new(content_type: &'static str, plain: Bytes) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, &plain);
        let hash = digest.as_ref()[..8]
            .iter()
            .fold(String::new(), |hash, byte| hash + &format!("{byte:02x}"));
        let gzip = gzip(&plain).filter(|gzip| gzip.len() < plain.len());
        Self {
            content_type,
            plain,
            gzip,
            hash,
        }
    }
}

fn gzip(plain: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Cannot fail: memory accepts every write.
    encoder.write_all(plain).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn the_page_refers_to_every_file_by_the_name_that_tells_its_content() {
        let page = str::from_utf8(&page().plain).unwrap();
        for (name, file) in &ASSETS.files {
            assert!(page.contains(&format!("\"dashboard/{name}\"")), "{name}");
            assert!(name.contains(&file.hash), "{name}");
            assert!(std::ptr::eq(asset(name).unwrap(), file));
        }
        for (name, ..) in FILES {
            assert!(!page.contains(&format!("dashboard/{name}")), "{name}");
            assert!(
                asset(name).is_none(),
                "a name that does not tell the content is no file"
            );
        }
    }

    #[test]
    fn the_page_has_no_code_or_style_of_its_own_and_refers_to_nothing_elsewhere() {
        let page = str::from_utf8(&page().plain).unwrap().to_lowercase();
        for forbidden in [
            "<style",
            " style=",
            " onclick=",
            " onload=",
            "javascript:",
            "http://",
            "https://",
            "=\"/",
        ] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        let scripts = page.matches("<script").count();
        assert_eq!(scripts, page.matches("<script src=").count());
    }

    #[test]
    fn a_compressed_file_is_the_file_and_all_are_small() {
        let files = ASSETS.files.iter().map(|(_, file)| file).chain([page()]);
        let (mut plain, mut compressed) = (0, 0);
        for file in files {
            plain += file.plain.len();
            compressed += file.gzip.as_ref().unwrap_or(&file.plain).len();
            let Some(gzip) = &file.gzip else { continue };
            let mut unpacked = Vec::new();
            GzDecoder::new(&gzip[..]).read_to_end(&mut unpacked).unwrap();
            assert_eq!(unpacked, file.plain);
        }
        assert!(plain <= 120_000, "{plain} bytes");
        assert!(compressed <= 45_000, "{compressed} bytes compressed");
    }
}
