#![allow(clippy::unwrap_used)]
use super::*;
use std::sync::atomic::AtomicU64;

fn message(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().copied().unwrap_or("other").to_owned(),
    }
}

#[test]
fn the_runtime_of_libtorch_is_found_and_forms_teams() {
    assert!(OpenMp::get().is_some());
    for count in [2usize, 5, 3] {
        let seen: Vec<_> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        let ids = Mutex::new(std::collections::HashSet::new());
        team_of(count, |m| {
            assert_eq!(m.count, count);
            seen[m.index].fetch_add(1, Ordering::Relaxed);
            ids.lock().unwrap().insert(std::thread::current().id());
        });
        assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1), "{seen:?}");
        assert_eq!(ids.into_inner().unwrap().len(), count);
    }
}

#[test]
fn a_team_is_as_large_as_libtorchs_and_its_first_member_is_the_caller() {
    let caller = std::thread::current().id();
    // Queried here: inside a region libtorch reports one thread per member.
    let (count, members) = (threads(), AtomicUsize::new(0));
    team(|m| {
        assert_eq!(m.count, count);
        assert_eq!(m.index == 0, std::thread::current().id() == caller);
        members.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(members.into_inner(), count);
}

#[test]
fn shares_cover_every_number_once_in_order_and_are_even() {
    let barrier = Barrier::default();
    for count in 1..9 {
        for n in 0..40 {
            let parts: Vec<_> = (0..count)
                .map(|index| Member { index, count, barrier: &barrier }.share(n))
                .collect();
            assert!(parts.iter().cloned().flatten().eq(0..n), "{parts:?}");
            let lengths = || parts.iter().map(|p| p.len());
            assert!(lengths().max().unwrap() - lengths().min().unwrap() <= 1, "{parts:?}");
        }
    }
}

#[test]
fn tasks_hand_out_every_number_once() {
    for (n, grain) in [(0, 3), (1, 0), (100, 7), (99, 1), (5, 50)] {
        let seen: Vec<_> = (0..n).map(|_| AtomicUsize::new(0)).collect();
        let (tasks, mark) = (Tasks::new(n, grain), |r: Range<usize>| {
            for i in r {
                seen[i].fetch_add(1, Ordering::Relaxed);
            }
        });
        team_of(4, |_| {
            while let Some(piece) = tasks.take() {
                mark(piece);
            }
        });
        for_each(n, grain, mark);
        assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 2), "{n} {grain}");
    }
}

#[test]
fn what_was_written_before_a_barrier_is_read_after_it() {
    const ROUNDS: u64 = 300;
    let cells: Vec<_> = (0..4).map(|_| AtomicU64::new(0)).collect();
    team_of(4, |m| {
        for round in 1..=ROUNDS {
            cells[m.index].store(round, Ordering::Relaxed);
            m.barrier();
            assert!(cells.iter().all(|c| c.load(Ordering::Relaxed) == round));
            m.barrier();
        }
    });
}

#[test]
fn a_nested_team_is_the_member_alone() {
    let runs = AtomicUsize::new(0);
    team_of(3, |_| {
        let me = std::thread::current().id();
        team_of(5, |inner| {
            assert_eq!((inner.index, inner.count), (0, 1));
            assert_eq!(std::thread::current().id(), me);
            inner.barrier();
            runs.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(runs.into_inner(), 3);
}

#[test]
fn a_panic_reaches_the_caller_and_frees_members_that_wait() {
    for guilty in 0..3 {
        let result = catch_unwind(|| {
            team_of(3, |m| {
                m.barrier();
                assert!(m.index != guilty, "member {guilty} fell");
                m.barrier();
            });
        });
        assert_eq!(message(result.unwrap_err()), format!("member {guilty} fell"));
    }
    let result = catch_unwind(|| {
        team_of(3, |m| {
            if m.index != 1 {
                m.barrier();
            }
        });
    });
    assert!(message(result.unwrap_err()).contains("returned before a barrier"));
    let after = AtomicUsize::new(0);
    team_of(3, |_| {
        after.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(after.into_inner(), 3);
}

#[test]
fn callers_on_several_threads_have_teams_of_their_own() {
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let sum = AtomicUsize::new(0);
                    team_of(2, |m| {
                        m.barrier();
                        sum.fetch_add(m.share(101).sum::<usize>(), Ordering::Relaxed);
                    });
                    assert_eq!(sum.into_inner(), 5050);
                }
            });
        }
    });
}
