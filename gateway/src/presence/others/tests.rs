//! What is known of other nodes, message by message, with a time of its own.

use super::super::message::{MAX_USERS_PER_MESSAGE, Message};
use super::*;

const NODE: NodeId = NodeId(1);

fn others(now: Instant) -> Others {
    let others = Others::default();
    assert!(others.heard(NODE, now), "it is new");
    assert!(!others.heard(NODE, now), "it is known");
    others
}

fn online(others: &Others, users: &[&str]) -> u32 {
    others.online(&mut users.iter().copied())
}

fn hashes(users: &[&str]) -> Vec<u64> {
    users.iter().map(|user| hash(user)).collect()
}

#[test]
fn changes_in_order_tell_who_is_online() {
    let now = Instant::now();
    let others = others(now);
    others.take(NODE, 4, (0, 1), &hashes(&["ann", "bob"]));
    assert_eq!((online(&others, &["ann", "bob", "carol"]), others.users()), (2, 2));
    others.change(NODE, 5, &hashes(&["carol"]), &hashes(&["ann"]));
    assert_eq!((online(&others, &["ann"]), online(&others, &["bob", "carol"])), (0, 2));
    // Said twice, or before: nothing changes.
    others.change(NODE, 5, &hashes(&["ann"]), &[]);
    others.change(NODE, 4, &hashes(&["ann"]), &[]);
    assert_eq!(online(&others, &["ann"]), 0);
    assert!(!others.has_said(NODE, 5, now) && !others.has_said(NODE, 3, now), "nothing is missing");
    // A user on two nodes is one recipient, but counts for each where nobody can tell.
    others.heard(NodeId(2), now);
    others.take(NodeId(2), 0, (0, 1), &hashes(&["bob"]));
    assert_eq!((online(&others, &["bob"]), others.users()), (1, 3));
}

#[test]
fn whoever_missed_a_change_asks_for_all_but_not_again_at_once() {
    let now = Instant::now();
    let others = others(now);
    assert!(others.has_said(NODE, 0, now), "nothing is known yet, not even that there is nobody");
    others.take(NODE, 0, (0, 1), &[]);
    assert!(!others.has_said(NODE, 0, now));
    others.change(NODE, 2, &hashes(&["bob"]), &[]);
    assert_eq!(online(&others, &["bob"]), 0, "what came before it is missing");
    assert!(!others.has_said(NODE, 2, now), "it was asked a moment ago");
    let later = now + ASK_AGAIN;
    assert!(others.has_said(NODE, 2, later));
    others.take(NODE, 2, (0, 1), &hashes(&["bob"]));
    assert_eq!(online(&others, &["bob"]), 1);
}

#[test]
fn clients_are_sent_where_somebody_takes_them() {
    let now = Instant::now();
    let others = others(now);
    assert!(!others.any_welcomes(), "it has not said so");
    others.welcomes(NODE, true);
    others.welcomes(NodeId(2), true);
    others.heard(NodeId(2), now);
    others.welcomes(NODE, false);
    assert!(!others.any_welcomes(), "one stops, the other one was not known");
    others.welcomes(NodeId(2), true);
    assert!(others.any_welcomes());
    others.remove(NodeId(2));
    assert!(!others.any_welcomes());
}

#[test]
fn of_a_flood_of_names_only_so_many_are_kept_until_they_are_silent() {
    let now = Instant::now();
    let others = others(now);
    let flood = 2..2 * MAX_NODES as u64;
    let known = flood.filter(|name| others.heard(NodeId(*name), now)).count();
    assert_eq!((known, others.count()), (MAX_NODES - 1, MAX_NODES));
    let stranger = NodeId(u64::MAX);
    others.take(stranger, 0, (0, 1), &hashes(&["bob"]));
    assert_eq!(online(&others, &["bob"]), 0);
    assert!(!others.heard(NODE, now + SILENCE), "who was known stays");
    assert_eq!(others.bury(now + SILENCE).len(), MAX_NODES - 1);
    assert!(others.heard(stranger, now + SILENCE));
}

#[test]
fn all_users_come_in_parts_and_a_lost_part_spoils_them() {
    let now = Instant::now();
    let others = others(now);
    others.take(NODE, 1, (0, 1), &hashes(&["old"]));
    others.take(NODE, 7, (0, 3), &hashes(&["ann"]));
    assert_eq!(online(&others, &["old", "ann"]), 1, "what is known holds until all is there");
    others.take(NODE, 7, (2, 3), &hashes(&["carol"]));
    assert_eq!(online(&others, &["old"]), 1);
    // A part of other times belongs to nothing that came before.
    others.take(NODE, 7, (0, 2), &hashes(&["ann"]));
    others.take(NODE, 8, (1, 2), &hashes(&["carol"]));
    assert_eq!(online(&others, &["old"]), 1);
    assert!(others.has_said(NODE, 7, now));
    for (part, user) in (0..).zip(["ann", "bob", "carol"]) {
        others.take(NODE, 7, (part, 3), &hashes(&[user]));
    }
    assert_eq!((online(&others, &["ann", "bob", "carol"]), online(&others, &["old"])), (3, 0));
}

#[test]
fn a_crowd_is_told_in_several_messages_and_understood_whole() {
    let now = Instant::now();
    let others = others(now);
    let crowd: Vec<u64> = (0..2 * MAX_USERS_PER_MESSAGE as u64 + 1).collect();
    let hear = |message: &Message| match Message::decode(&message.encode(NODE)).unwrap().1 {
        Message::Users { version, part, parts, users } => others.take(NODE, version, (part, parts), &users),
        Message::Changed { version, came, went } => others.change(NODE, version, &came, &went),
        other => panic!("{other:?}"),
    };
    let all: Vec<Message> = Message::users(0, &crowd).collect();
    assert_eq!(all.len(), 3);
    all.iter().for_each(hear);
    assert_eq!(others.held(), crowd.len());
    let mut version = 0;
    let turned = Message::changes(&mut version, &[u64::MAX], &crowd);
    assert_eq!((turned.len(), version), (3, 3));
    turned.iter().for_each(hear);
    assert_eq!((others.held(), others.has_said(NODE, 3, now)), (1, false));
    // Nobody is told in one message, too, and no change in none.
    Message::users(4, &[]).for_each(|message| hear(&message));
    assert_eq!((others.held(), others.has_said(NODE, 4, now)), (0, false));
    assert!(Message::changes(&mut version, &[], &[]).is_empty() && version == 3);
}

#[test]
fn a_silent_node_is_gone_with_its_users() {
    let now = Instant::now();
    let others = others(now);
    others.heard(NodeId(2), now);
    others.take(NODE, 1, (0, 1), &hashes(&["bob"]));
    others.heard(NodeId(2), now + SILENCE);
    assert!(others.bury(now + SILENCE - Duration::from_millis(1)).is_empty());
    assert_eq!(others.bury(now + SILENCE), [NODE]);
    assert_eq!((others.alive(), online(&others, &["bob"]), others.users()), (vec![NodeId(2)], 0, 0));
    // Who says something although it is gone is not known.
    others.change(NODE, 2, &hashes(&["bob"]), &[]);
    others.take(NODE, 2, (0, 1), &hashes(&["bob"]));
    assert_eq!(others.users(), 0);
    assert!(others.remove(NodeId(2)) && !others.remove(NodeId(2)));
    assert_eq!(others.count(), 0);
}

#[test]
fn what_is_kept_in_mind_has_a_bound_for_all_nodes_together() {
    let now = Instant::now();
    let others = others(now);
    others.heard(NodeId(2), now);
    let many: Vec<u64> = (0..MAX_USERS as u64 - 1).collect();
    others.take(NODE, 1, (0, 1), &many);
    others.take(NodeId(2), 1, (0, 1), &hashes(&["ann", "bob"]));
    assert_eq!((others.held(), online(&others, &["ann", "bob"])), (MAX_USERS, 1));
    others.change(NodeId(2), 2, &hashes(&["carol"]), &[]);
    assert_eq!(others.held(), MAX_USERS);
    // Whoever goes makes room.
    others.change(NodeId(2), 3, &hashes(&["carol"]), &hashes(&["ann"]));
    assert_eq!(online(&others, &["carol"]), 1);
    others.change(NODE, 2, &[], &many);
    assert_eq!(others.held(), 1);
}
