//! The OpenAPI document, made of the handlers and the types.

use utoipa::OpenApi;

use super::{channels, clients, events, inbox, keeping, messages, model, presence, report, requests, socket};
use crate::metrics::chronicle::Happening;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Restante",
        description = "A messaging cluster: clients register under a name and send each other messages, which wait in the recipient's inbox until it calls for them. Any server answers for any client. `docs/api.md` tells more.",
    ),
    paths(
        messages::send,
        messages::send_batch,
        requests::request,
        inbox::get,
        events::inbox,
        socket::prepare,
        inbox::message,
        inbox::acknowledge,
        inbox::attach,
        inbox::detach,
        keeping::settings,
        keeping::set,
        keeping::history,
        messages::open_stream,
        messages::get_stream,
        messages::put,
        messages::receipts,
        messages::close_stream,
        channels::list,
        channels::create,
        channels::delete,
        channels::members,
        channels::join,
        channels::leave,
        channels::enlisted,
        channels::subscribe,
        channels::unsubscribe,
        clients::list,
        clients::register,
        clients::get,
        clients::deregister,
        presence::get,
        presence::watch,
        clients::status,
        events::watch,
    ),
    components(schemas(Happening, report::Passing, model::Message)),
    tags(
        (name = "messages", description = "Sending."),
        (name = "inbox", description = "Receiving and acknowledging."),
        (name = "streams", description = "Numbered sends, exact for ever."),
        (name = "channels", description = "Channels, their members, and subscriptions to patterns of their names."),
        (name = "clients", description = "Who is registered."),
        (name = "cluster", description = "The servers, and what happens."),
    ),
)]
struct Document;

/// The document as JSON.
pub(super) fn document() -> String {
    Document::openapi().to_json().unwrap_or_else(|error| {
        tracing::error!(%error, "the OpenAPI document cannot be written");
        "{}".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::super::route::{BadRoute, Route};
    use super::*;

    #[test]
    fn the_document_and_the_routes_know_the_same_paths_and_methods() {
        let document: serde_json::Value = serde_json::from_str(&document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut operations = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            let concrete = path
                .replace("{name}", "bob")
                .replace("{stream}", "7")
                .replace("{number}", "1")
                .replace("{position}", "3")
                .replace("{channel}", "orders")
                .replace("{pattern}", "orders.%3E");
            let behind = concrete.strip_prefix("/v1/").unwrap();
            for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
                let documented = item.get(method.to_lowercase()).is_some();
                let routed = Route::parse(method, behind);
                assert_eq!(routed.is_ok(), documented, "{method} {path}: {routed:?}");
                if !documented {
                    assert!(matches!(routed, Err(BadRoute::Method(_))), "{method} {path}: {routed:?}");
                }
                operations += usize::from(documented);
            }
        }
        assert_eq!(operations, 35, "a route that is not in the document is not counted here");
    }
}
