//! Keys as the file lists them, and files that are wrong.

use super::*;

fn made(name: &str, scopes: &str, id: u32) -> NewKey {
    new_key(name, scopes, id, [u8::try_from(id % 251).unwrap(); 32]).unwrap()
}

fn folder_with(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn a_new_key_is_recognised_and_a_changed_one_is_not() {
    let key = made("orders \"nörth\\\"", "send, read", 7);
    let (_folder, path) = folder_with(&key.block);
    let keys = ApiKeys::load(&path, None).unwrap();
    let found = keys.verify(key.key.expose()).unwrap();
    assert_eq!(found.name(), "orders \"nörth\\\"");
    assert!(found.allows(&[Scope::Read, Scope::Admin]) && !found.allows(&[Scope::Admin]));
    let text = key.key.expose();
    assert!(text.starts_with("gwk_00000007_") && text.len() == 4 + 8 + 1 + 43, "{text}");
    let mut other = text[..text.len() - 1].to_owned();
    other.push(if text.ends_with('A') { 'B' } else { 'A' });
    for wrong in [&other, "gwk_00000008_x", "gwk_00000007_", "gwk__"] {
        assert_eq!(keys.verify(wrong).unwrap_err(), AuthRefusal::UnknownKey, "{wrong}");
    }
    assert_eq!(keys.verify("gwk_").unwrap_err(), AuthRefusal::Malformed);
}

#[test]
fn a_key_that_leaves_the_file_is_revoked_and_one_that_stays_is_the_same() {
    let metrics = Metrics::new();
    let (stays, goes) = (made("stays", "send", 1), made("goes", "send", 2));
    let (_folder, path) = folder_with(&format!("{}{}", stays.block, goes.block));
    let keys = ApiKeys::load(&path, Some(Rate::per_second(1, 1))).unwrap();
    let before = keys.verify(stays.key.expose()).unwrap();
    let gone = keys.verify(goes.key.expose()).unwrap();
    let look_twice = || (0..2).for_each(|_| keys.look_again(&metrics));
    look_twice();
    assert!(!gone.is_revoked());
    std::fs::write(&path, &stays.block).unwrap();
    keys.look_again(&metrics);
    assert!(!gone.is_revoked(), "it may not be written to its end yet");
    keys.look_again(&metrics);
    assert!(gone.is_revoked() && !before.is_revoked());
    assert!(Arc::ptr_eq(&before, &keys.verify(stays.key.expose()).unwrap()), "its bucket is not refilled");
    assert_eq!(keys.verify(goes.key.expose()).unwrap_err(), AuthRefusal::UnknownKey);
    for (text, stays_in_force) in [("[[key]]\nid = 3", true), ("", true), ("# nobody", false)] {
        std::fs::write(&path, text).unwrap();
        look_twice();
        assert_eq!(keys.verify(stays.key.expose()).is_ok(), stays_in_force, "{text}");
    }
}

#[test]
fn a_key_whose_entry_is_edited_stays_unless_it_may_not_read_any_more() {
    let metrics = Metrics::new();
    let block = made("reader", "read,send", 1).block;
    let (_folder, path) = folder_with(&block);
    let keys = ApiKeys::load(&path, None).unwrap();
    let text = made("reader", "read,send", 1).key;
    let session = keys.verify(text.expose()).unwrap();
    let write = |block: String| {
        std::fs::write(&path, block).unwrap();
        (0..2).for_each(|_| keys.look_again(&metrics));
        keys.verify(text.expose()).unwrap()
    };
    let slower = write(format!("{block}sends = \"1/h\"\n"));
    assert!(slower.take_sends(1).is_ok() && slower.take_sends(1).is_err(), "the new rate holds");
    assert!(!session.is_revoked());
    let sender = write(block.replace("\"read\", ", ""));
    assert!(session.is_revoked() && slower.is_revoked() && !sender.is_revoked());
    assert!(!sender.allows(&[Scope::Read]));
}

#[test]
fn a_key_has_a_rate_of_its_own_or_the_default() {
    let slow = format!("{}sends = \"1/h\"\n", made("slow", "send", 1).block);
    let free = format!("{}sends = \"none\"\n", made("free", "send", 2).block);
    let (_folder, path) = folder_with(&format!("{slow}{free}{}", made("usual", "send", 3).block));
    let keys = ApiKeys::load(&path, Some(Rate::per_second(1, 2))).unwrap();
    let take =
        |id: u32, count| keys.verify(made("x", "send", id).key.expose()).unwrap().take_sends(count).is_ok();
    assert_eq!((take(1, 1), take(1, 1)), (true, false));
    assert_eq!((take(2, 1_000_000), take(2, 1_000_000)), (true, true));
    assert_eq!((take(3, 2), take(3, 1)), (true, false));
}

#[test]
fn a_file_that_is_wrong_is_refused_by_what_is_wrong_with_it() {
    let good = made("a", "send", 1).block;
    for (text, complaint) in [
        (format!("{good}{good}"), "twice"),
        (good.replace("\"00000001\"", "\"xyz\""), "8 hexadecimal digits"),
        (good.replace("\"send\"", "\"sent\""), "line 4 makes no sense"),
        (good.replace("[\"send\"]", "[]"), "no scope"),
        (good.replace("sha256 = \"", "sha256 = \"zz"), "64 hexadecimal digits"),
        (format!("{good}sends = \"often\"\n"), "expected a rate"),
        (format!("{good}secret = \"often\"\n"), "line 6 makes no sense"),
        (String::new(), "it is empty"),
        (good.replace("\"a\"", "\"\""), "1 to 64 bytes"),
    ] {
        let (_folder, path) = folder_with(&text);
        let error = ApiKeys::load(&path, None).err().unwrap().to_string();
        assert!(error.starts_with("auth.api_keys_file: cannot use ") && error.contains(complaint), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}

#[test]
fn a_key_is_not_made_without_a_name_and_scopes() {
    assert!(new_key("", "send", 1, [0; 32]).is_err());
    assert!(new_key("a\nb", "send", 1, [0; 32]).is_err());
    assert!(new_key("a", " , ", 1, [0; 32]).unwrap_err().contains("needs a scope"));
    assert!(new_key("a", "send,root", 1, [0; 32]).unwrap_err().contains("root"));
}
