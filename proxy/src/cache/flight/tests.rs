//! Who joins a flight, and what its readers get.

use super::*;
use http::StatusCode;

fn live(stored: bool) -> LiveHead {
    LiveHead {
        head: ResponseHead::new(StatusCode::OK),
        length: None,
        stored: if stored {
            Ok(Shared {
                names: Box::default(),
                variant: Box::default(),
                ttl: 1,
                scopes: Box::default(),
                compress: false,
            })
        } else {
            Err("private")
        },
    }
}

fn purges() -> Purges {
    Purges::open(None)
}

async fn outcome(flight: &Arc<Flight>, leads: bool) -> Outcome {
    flight.outcome(&HeaderMap::new(), leads, &mut 0).await
}

#[tokio::test]
async fn a_late_reader_gets_the_whole_body() {
    let flights = Flights::default();
    let Joined::Lead(flight) = flights.join("a", &purges(), Box::default) else {
        panic!("the first leads")
    };
    flight.live(live(true));
    assert!(flight.push("one".into()).await);
    let Joined::Join(joined) = flights.join("a", &purges(), Box::default) else {
        panic!("the second joins")
    };
    let Outcome::Live(_, mut reader) = outcome(&joined, false).await else {
        panic!("it is shared")
    };
    flight.end(None);
    assert_eq!(reader.next().await, Ok(Ok("one".into())));
    assert_eq!(reader.next().await, Ok(Err(None)));
}

#[tokio::test]
async fn what_is_not_stored_is_not_shared_and_not_kept() {
    let flight = Flights::default().alone("https://a.test/", &purges());
    flight.live(live(false));
    assert!(matches!(outcome(&flight, false).await, Outcome::NotShared));
    let Outcome::Live(_, mut reader) = outcome(&flight, true).await else {
        panic!("the leader reads it")
    };
    for _ in 0..3 {
        assert!(flight.push(Bytes::from(vec![0; 1000])).await);
        assert!(matches!(reader.next().await, Ok(Ok(_))));
    }
    assert!(flight.push("end".into()).await);
    assert_eq!(flight.state.lock().pieces.len(), 1);
    drop(reader);
    assert!(!flight.push("nobody".into()).await);
}

#[tokio::test]
async fn a_closed_flight_cannot_be_joined() {
    let flights = Flights::default();
    let Joined::Lead(flight) = flights.join("a", &purges(), Box::default) else {
        panic!("the first leads")
    };
    flights.close(&flight);
    assert!(matches!(
        flights.join("a", &purges(), Box::default),
        Joined::Lead(_)
    ));
}

/// Those who had joined a flight that was given up waited for ever.
#[tokio::test]
async fn an_abandoned_flight_lets_its_passengers_go() {
    let flights = Flights::default();
    let Joined::Lead(flight) = flights.join("a", &purges(), Box::default) else {
        panic!("the first leads")
    };
    let Joined::Join(joined) = flights.join("a", &purges(), Box::default) else {
        panic!("the second joins")
    };
    flights.abandon(&flight);
    assert!(matches!(outcome(&joined, false).await, Outcome::LookAgain));
    assert!(matches!(
        flights.join("a", &purges(), Box::default),
        Joined::Lead(_)
    ));
}

#[tokio::test]
async fn a_break_reaches_the_readers() {
    let flight = Flights::default().alone("https://a.test/", &purges());
    flight.live(live(true));
    let Outcome::Live(_, mut reader) = outcome(&flight, true).await else {
        panic!("the leader reads it")
    };
    flight.failed(Failure::Unreachable);
    assert_eq!(reader.next().await, Err(Failure::Unreachable));
}
