//! Who may change something.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::header::{ALLOW, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
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

impl Token {
    /// Wraps the secret text.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
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
    fn tokens_compare_whole() {
        let token = Token::new("secret");
        assert!(!format!("{token:?}").contains("secret"));
        assert!(token.matches(b"secret"));
        for refused in [&b""[..], b"secre", b"secret ", b"Secret"] {
            assert!(!token.matches(refused));
        }
    }
}
