//! Finds a service in a service file, as libpq does: `[name]`, and below it an `option=value` in each line.
//!
//! Pure: it reads no file. Invariant: the result is that of libpq's `parseServiceFile`, or an error; values are never quoted in
//! errors.

use crate::InvalidUrl;

/// Returns the options of a service; `None` if the file does not have it. Of an option that occurs twice the first one counts.
///
/// # Errors
///
/// A line of the service is not an option. The lines of other services are not read.
pub(crate) fn find(text: &str, service: &str) -> Result<Option<Vec<(String, String)>>, InvalidUrl> {
    let mut found: Option<Vec<(String, String)>> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_matches(|c| matches!(c, ' ' | '\t'..='\r'));
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(heading) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            let is_wanted = heading.strip_prefix(service).is_some_and(|rest| rest.starts_with(']'));
            found = is_wanted.then(Vec::new);
            continue;
        }
        let Some(options) = &mut found else {
            continue;
        };
        let number = index + 1;
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("uses a service whose file has no = in line {number}").into());
        };
        if matches!(name, "service" | "servicefile") {
            return Err(format!("uses a service whose file names another one in line {number}").into());
        }
        if line.starts_with("ldap") {
            return Err(format!("uses a service whose file asks LDAP in line {number}, which is not supported").into());
        }
        if options.iter().all(|(known, _)| known != name) {
            options.push((name.to_owned(), value.to_owned()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
        # all of them\n\
        [other]\nnonsense\n\
        [shop]   \n  host=db \n port=5433\nport=1\n\n# dbname=no\npassword=a = b\n\
        [shop]\ndbname=no\n";

    #[test]
    fn the_options_of_one_service_are_found() {
        let options = find(FILE, "shop").unwrap().unwrap();
        let options: Vec<_> = options
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(options, [("host", "db"), ("port", "5433"), ("password", "a = b")]);
        assert_eq!(find(FILE, "sho").unwrap(), None);
        assert_eq!(find("[empty]", "empty").unwrap(), Some(Vec::new()));
    }

    #[test]
    fn a_line_that_is_no_option_is_named_without_its_text() {
        for line in ["hunter2", "service=hunter2", "ldap://hunter2=1"] {
            let complaint = find(&format!("[s]\nhost=h\n{line}"), "s").unwrap_err().to_string();
            assert!(
                complaint.contains("line 3") && !complaint.contains("hunter2"),
                "{complaint}"
            );
        }
        assert!(find(FILE, "other").is_err());
    }
}
