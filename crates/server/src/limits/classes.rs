//! Which class a request belongs to, and the text of further classes: `search=GET /users:100/min; bulk=POST /read:10/s`.
//!
//! Invariant: a path and its other spellings (percent-encoded, with a slash at the end) belong to one class, so a client
//! cannot choose its limit by spelling.

use std::fmt;
use std::str::FromStr;

use axum::http::Method;
use percent_encoding::percent_decode_str;

use super::policy::{InvalidPolicy, Policy};

/// The classes that every request without a class of its own belongs to, and that of failed logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Requests that change nothing.
    Read,
    /// Requests that change keys or users.
    Write,
    /// Requests to administer the service.
    Admin,
    /// Requests without valid credentials.
    AuthFailures,
}

impl Base {
    /// All, in the order of their [`ClassId`].
    pub(super) const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Admin, Self::AuthFailures];

    /// Its name in headers, problems and the limits of a key.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::AuthFailures => "auth-failures",
        }
    }
}

/// A class, by its place among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassId(pub(super) usize);

impl From<Base> for ClassId {
    fn from(base: Base) -> Self {
        Self(base as usize)
    }
}

/// A class of certain routes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RouteClass {
    name: String,
    routes: Vec<Route>,
    policy: Policy,
}

/// Some paths: `/users`, or all that begin so: `/read/a*`. With a method, only its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    method: Option<Method>,
    path: String,
    is_prefix: bool,
}

/// Further classes; a request belongs to the first that it matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteClasses(Vec<RouteClass>);

/// Why a text is no list of classes. `Display` continues a sentence that begins with the text, and quotes nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has a mistake in class {at}: {what}")]
pub struct InvalidClasses {
    /// The position of the class, from 1.
    pub at: usize,
    /// What is wrong with it.
    pub what: InvalidClass,
}

/// What is wrong with a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClass {
    /// It is not of the form `name=routes:limit`.
    #[error("it is not of the form search=GET /users:100/min")]
    Malformed,
    /// Its name.
    #[error("its name is not of lower-case letters, digits and -, or longer than 32 of them")]
    Name,
    /// An earlier class, or one of the service itself, has its name.
    #[error("its name is taken by another class, or by read, write, admin or auth-failures")]
    Twice,
    /// One of its routes.
    #[error("a route is not of the form /users, GET /users or /read/*")]
    Route,
    /// Its limit.
    #[error("its limit {0}")]
    Policy(#[from] InvalidPolicy),
}

impl RouteClasses {
    /// The name and the limit of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Policy)> {
        self.0.iter().map(|class| (&*class.name, &class.policy))
    }

    /// Returns the class of a request: one of these, or else `base`.
    #[must_use]
    pub fn class_of(&self, method: &Method, path: &str, base: Base) -> ClassId {
        let matches = |class: &RouteClass| class.routes.iter().any(|route| route.matches(method, path));
        match self.0.iter().position(matches) {
            Some(at) => ClassId(Base::ALL.len() + at),
            None => base.into(),
        }
    }
}

impl Route {
    fn matches(&self, method: &Method, path: &str) -> bool {
        let is_method = match &self.method {
            None => true,
            // A HEAD costs what a GET costs.
            Some(Method::GET) => method == Method::GET || method == Method::HEAD,
            Some(wanted) => method == wanted,
        };
        is_method && self.matches_path(path)
    }

    fn matches_path(&self, path: &str) -> bool {
        let mut given = percent_decode_str(path);
        let begins_so = self.path.bytes().all(|byte| given.next() == Some(byte));
        match given.next() {
            _ if !begins_so => false,
            _ if self.is_prefix => true,
            None => true,
            rest => rest == Some(b'/') && given.next().is_none(),
        }
    }
}

impl FromStr for RouteClasses {
    type Err = InvalidClasses;

    fn from_str(text: &str) -> Result<Self, InvalidClasses> {
        let mut classes = Vec::<RouteClass>::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let at = classes.len() + 1;
            let class = class(part, &classes).map_err(|what| InvalidClasses { at, what })?;
            classes.push(class);
        }
        Ok(Self(classes))
    }
}

fn class(text: &str, earlier: &[RouteClass]) -> Result<RouteClass, InvalidClass> {
    let (name, rest) = text.split_once('=').ok_or(InvalidClass::Malformed)?;
    // No policy contains a colon, but a path may.
    let (routes, policy) = rest.rsplit_once(':').ok_or(InvalidClass::Malformed)?;
    let name = name.trim().to_owned();
    if !is_class_name(&name) {
        return Err(InvalidClass::Name);
    }
    let is_taken = earlier.iter().any(|known| known.name == name);
    if is_taken || Base::ALL.iter().any(|base| base.name() == name) {
        return Err(InvalidClass::Twice);
    }
    let routes = routes.split('|').map(route).collect::<Option<_>>();
    Ok(RouteClass {
        name,
        routes: routes.ok_or(InvalidClass::Route)?,
        policy: policy.parse()?,
    })
}

pub(super) fn is_class_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(is_plain)
}

fn route(text: &str) -> Option<Route> {
    let text = text.trim();
    let (method, path) = match text.split_once(' ') {
        Some((method, path)) => {
            let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
            let method = method.parse().ok().filter(|_| is_method)?;
            (Some(method), path.trim())
        }
        None => (None, text),
    };
    // No route of the service has an empty segment.
    if path.contains("//") {
        return None;
    }
    let (path, is_prefix) = match path.strip_suffix('*') {
        Some(beginning) => (beginning, true),
        None => (
            path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path),
            false,
        ),
    };
    let is_path = path.starts_with('/') && !path.contains(['*', '?', '#', ' ']);
    is_path.then(|| Route {
        method,
        path: path.to_owned(),
        is_prefix,
    })
}

/// The text that parses to these classes.
impl fmt::Display for RouteClasses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, class) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{}=", class.name)?;
            for (at, route) in class.routes.iter().enumerate() {
                let separator = if at == 0 { "" } else { "|" };
                write!(f, "{separator}{route}")?;
            }
            write!(f, ":{}", class.policy)?;
        }
        Ok(())
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = &self.method {
            write!(f, "{method} ")?;
        }
        let star = if self.is_prefix { "*" } else { "" };
        write!(f, "{}{star}", self.path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn classes(text: &str) -> RouteClasses {
        text.parse().unwrap()
    }

    fn class_of(classes: &RouteClasses, method: Method, path: &str) -> String {
        let ClassId(at) = classes.class_of(&method, path, Base::Read);
        let further = at.checked_sub(Base::ALL.len());
        further.map_or("read".to_owned(), |at| classes.0[at].name.clone())
    }

    #[test]
    fn a_request_belongs_to_the_first_class_whose_route_it_matches() {
        let classes = classes(
            "search=GET /users:100/min; bulk = POST /read | DELETE /read/a:*: 10/s burst=5, 20/h; keys=/read/*:off",
        );
        for (method, path, class) in [
            (Method::GET, "/users", "search"),
            (Method::HEAD, "/users", "search"),
            (Method::GET, "/users/", "search"),
            (Method::GET, "/%75sers", "search"),
            (Method::GET, "/users%2F", "search"),
            (Method::GET, "/users/7", "read"),
            (Method::GET, "/users//", "read"),
            (Method::GET, "/user", "read"),
            (Method::POST, "/users", "read"),
            (Method::POST, "/read", "bulk"),
            (Method::DELETE, "/read/a:b", "bulk"),
            (Method::DELETE, "/read/%61:b", "bulk"),
            (Method::DELETE, "/read/b", "keys"),
            (Method::GET, "/read/", "keys"),
            (Method::GET, "/read", "read"),
        ] {
            assert_eq!(class_of(&classes, method.clone(), path), class, "{method} {path}");
        }
        assert_eq!(
            classes.0[1].policy.to_string(),
            "10/s burst=5,20/h burst=2".replace(" burst=2", "")
        );
        assert_eq!(
            RouteClasses::default().class_of(&Method::GET, "/", Base::Admin),
            Base::Admin.into()
        );
    }

    #[test]
    fn invalid_classes_are_refused_with_what_is_wrong() {
        use InvalidClass::{Malformed, Name, Route, Twice};
        for (text, at, what) in [
            ("search", 1, Malformed),
            ("search=/users", 1, Malformed),
            ("=/users:1/s", 1, Name),
            ("Search=/users:1/s", 1, Name),
            ("read=/users:1/s", 1, Twice),
            ("a=/x:1/s;;a=/y:1/s", 2, Twice),
            ("a=users:1/s", 1, Route),
            ("a=get /users:1/s", 1, Route),
            ("a=/x|:1/s", 1, Route),
            ("a=/x*y:1/s", 1, Route),
            ("a=/x?q:1/s", 1, Route),
            ("a=/x:off; b=/x:1/m", 2, InvalidClass::Policy(InvalidPolicy::Unit)),
        ] {
            assert_eq!(text.parse::<RouteClasses>(), Err(InvalidClasses { at, what }), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_parsed_without_a_panic_and_classes_are_read_back_from_their_text(
            text in "([a-c]{0,2}=?((GET )?/[a-z%:/]{0,3}[*|]?){0,2}:?[1-9]/(s|h);?){0,3}",
        ) {
            if let Ok(classes) = text.parse::<RouteClasses>() {
                prop_assert_eq!(classes.to_string().parse(), Ok(classes));
            }
        }
    }
}
