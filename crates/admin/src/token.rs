//! Who may change something.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::header::{ALLOW, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use rand::RngExt as _;
use serde_json::json;
use subtle::ConstantTimeEq as _;

use crate::router::json_response;

/// The secret that guards a role's actions, sent as `Authorization: Bearer …`.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(<redacted>)")
    }
}

/// A token file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("token file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than the owner may read or change the file.
    #[error("token file {} has mode {mode:o}, others may use it: run chmod 600 on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Too short to be a secret.
    #[error("token file {} holds {len} characters, at least {} are needed: remove it to get a new one", path.display(), Token::LEN_MIN)]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Characters found.
        len: usize,
    },
}

impl Token {
    /// Shortest accepted token in characters.
    pub const LEN_MIN: usize = 32;

    /// Reads the token from `path`, or draws a new one and writes it there with mode 0600.
    ///
    /// # Errors
    /// [`TokenError`] if the file cannot be used, is open to others, or holds less than [`Self::LEN_MIN`]
    /// characters.
    pub fn load_or_create(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Io { path: path.to_owned(), source };
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                let secret: [u8; 32] = rand::rng().random();
                let text = hex::encode(secret);
                file.write_all(format!("{text}\n").as_bytes())
                    .and_then(|()| file.sync_all())
                    .map_err(failed)?;
                Ok(Self(text.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(TokenError::Exposed { path: path.to_owned(), mode });
                }
                let text = fs::read_to_string(path).map_err(failed)?;
                let text = text.trim();
                if text.len() < Self::LEN_MIN {
                    return Err(TokenError::TooShort { path: path.to_owned(), len: text.len() });
                }
                Ok(Self(text.into()))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether `presented` is this token; takes the same time wherever they differ.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

/// Lets the routes of `actions` run only as POST and only with `token`; another method gets 405 whatever it shows.
pub fn guard(token: Token, actions: Router) -> Router {
    actions.route_layer(middleware::from_fn_with_state(token, check))
}

async fn check(State(token): State<Token>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        let message = "this action changes something: send it as POST";
        let mut response = json_response(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": message }));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let presented = request.headers().get(AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    if presented.strip_prefix(b"Bearer ").is_some_and(|presented| token.matches(presented)) {
        return next.run(request).await;
    }
    let message = "this action needs the header \"Authorization: Bearer TOKEN\" with the token from the file \
                   admin.token in the state folder of the role";
    let mut response = json_response(StatusCode::UNAUTHORIZED, &json!({ "error": message }));
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_drawn_once_and_readable_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        let drawn = Token::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim().len(), 64);
        let loaded = Token::load_or_create(&path).unwrap();
        assert!(loaded.matches(text.trim().as_bytes()) && drawn.matches(text.trim().as_bytes()));
        assert!(!format!("{drawn:?}").contains(text.trim()));
    }

    #[test]
    fn tokens_compare_whole() {
        let token = Token("secret".into());
        assert!(token.matches(b"secret"));
        for refused in [&b""[..], b"secre", b"secret ", b"Secret"] {
            assert!(!token.matches(refused));
        }
    }

    #[test]
    fn exposed_short_and_missing_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        Token::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Token::load_or_create(&path), Err(TokenError::Exposed { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short\n").unwrap();
        assert!(matches!(Token::load_or_create(&path), Err(TokenError::TooShort { len: 5, .. })));
        let nowhere = folder.path().join("no/such/folder");
        assert!(matches!(Token::load_or_create(&nowhere), Err(TokenError::Io { .. })));
    }
}
