//! What happens to certificates, as a feed on a site.

use http::{Method, StatusCode, header};

use super::Exchange;
use crate::access_log::{Record, Told};
use crate::certs::Form;
use crate::downstream::{Downstream, RequestHead};
use crate::response;
use crate::route::Site;
use crate::shared::Live;

/// The form in which a request asks for the feed, where it does and knows the secret.
pub(super) fn asked(live: &Live, site: &Site, head: &RequestHead) -> Option<Form> {
    let feed = live.feed.as_ref()?;
    feed.form(site.config.canonical(), head.target.path())
}

impl Exchange<'_> {
    /// Answers with the feed. No cache keeps it, whatever the operator says of the site's answers.
    pub(super) async fn feed<D: Downstream>(&self, mut client: D, form: Form) -> Option<D> {
        let told = Told::own(StatusCode::OK, "feed");
        if !matches!(self.head.method, Method::GET | Method::HEAD) {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let mut answer = (response::plain_head(status), response::plain_body(status));
            response::put(&mut answer.0.headers, header::ALLOW, "GET, HEAD");
            return self
                .answered(client, answer, Told::own(status, "feed"))
                .await;
        }
        let host = &self.head.host;
        let (scheme, target) = (self.connection.scheme(), self.head.target.path());
        let port = self.head.port.map(|port| format!(":{port}"));
        let url = format!("{scheme}://{host}{}{target}", port.unwrap_or_default());
        let body = self.shared.certs().feed(form, &url);
        let mut head = response::plain_head(StatusCode::OK);
        let tls = self.connection.tls.is_some();
        response::finish(&mut head.headers, self.site, Some(self.route), tls);
        super::say_own(&mut head, Some("feed"));
        for (name, value) in [
            (header::CONTENT_TYPE, form.media_type()),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            response::put(&mut head.headers, name, value);
        }
        let answer = (head, body.into());
        let sent = super::answer_with(&mut client, &self.head.method, answer).await;
        let place = Some((self.site, Some(self.route)));
        let record = Record::new(self.connection, self.head, place, &client, &told);
        self.shared.log(&record);
        sent.is_ok().then_some(client)
    }
}
