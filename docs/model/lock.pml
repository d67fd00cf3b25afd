/*
 * lock.pml: the lock of a gateway's agents and the one cell that they write
 * under it, as shmproto has them (lock.go, cell.go, guest.go, host.go).
 *
 * Every load of shared memory is a step of its own, between which anybody else
 * may do anything. Stores go into a store buffer, first in, first out, as on
 * amd64, and reach the memory at any later time; FENCE waits until the buffer is
 * empty. (On arm64 stores are STLR and loads LDAR, which are never reordered with
 * each other, so that is less.) The words of a record are stored and loaded in
 * any order.
 *
 * An agent can be killed between any two steps, with or without the stores that
 * are under way, and a new one started in its slot. One that is merely not
 * scheduled is a stopped one, which goes on at any later time; STALLS bounds how
 * often that outlasts somebody else's patience.
 *
 * A property is a global that becomes true when it is violated. README.md says
 * which code stands behind which line.
 */
#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef PUBLICATIONS
#define PUBLICATIONS 1	/* of each agent, besides what has to be shown again */
#endif
#ifndef STALLS
#define STALLS 1
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef READS
#define READS 1
#endif

/* The properties. */
bool two_holders;	/* two agents are in the critical section, and neither was passed over */
bool late_record;	/* a record counts that was void before it was read */
bool mixed_record;	/* a record counts whose words are of two records */
bool lock_stuck;	/* a living agent never gets the lock */
bool nothing_shown;	/* everybody is quiet, and no valid record stands */

#define PROVE(violated, ok) if :: !(ok) -> violated = true :: else fi; assert(!violated)

/* The shared words. */
#define IDLE 0
#define CHOOSING 1
#define COMPETING 2
byte state[WRITERS];
byte ticket[WRITERS];
byte incarnation[WRITERS];
byte revoked[WRITERS * WRITERS];	/* [who * WRITERS + whom] */
byte version;
short buffer[4];			/* two buffers of two words */

/* A word of a record: by whom, with which ticket, for which version. The real
 * words have a checksum over all of that instead. */
#define RECORD(w, g, v) (1 + (w) + 4 * (g) + 128 * (v))
#define WRITER(r) (((r) - 1) % 4)
#define TICKET(r) (((r) / 4) % 32)
#define VERSION(r) ((r) / 128)
#define NEXT(v) (((v) + 1) % 8)

/* Stores. A store into the buffer is seen by nobody, so it is no step of its own. */
#define A_STATE 0
#define A_TICKET 1
#define A_INCARNATION 2
#define A_VERSION 3
#define A_BUFFER 4	/* ... 7 */
#define A_REVOKED 8	/* ... */
chan stores[WRITERS] = [6] of { byte, short };
#define STORE(a, x) stores[w] ! a, x
#define FENCED (len(stores[w]) == 0)

#ifdef MUTANT_no_fence_while_choosing
#define FENCED_CHOOSING true
#else
#define FENCED_CHOOSING FENCED
#endif
#ifdef MUTANT_no_fence_behind_ticket
#define FENCED_TICKET true
#else
#define FENCED_TICKET FENCED
#endif
#ifdef MUTANT_no_fence_behind_revocation
#define FENCED_REVOKED true
#define FENCED_HOLDING true
#else
#define FENCED_REVOKED FENCED
#define FENCED_HOLDING FENCED
#endif

/* Ghosts: no code reads them but the properties and the end. */
byte holds[WRITERS];	/* in the critical section, with which ticket; 0: not in it */
byte alive[WRITERS];	/* incarnation of the agent; 0: dead */
bool settled[WRITERS];
byte stalls = STALLS;

inline commit(w, a, x) {
	if
	:: a == A_STATE -> state[w] = x
	:: a == A_TICKET -> ticket[w] = x
	:: a == A_INCARNATION -> incarnation[w] = x
	:: a == A_VERSION -> version = x
	:: a >= A_BUFFER && a < A_REVOKED -> buffer[a - A_BUFFER] = x
	:: a >= A_REVOKED -> revoked[w * WRITERS + a - A_REVOKED] = x
	fi;
	a = 0; x = 0
}

/* memory moves the stores from the buffers to where others see them. */
proctype memory() {
	byte a;
	short x;
	do
	:: d_step { stores[0] ? a, x -> commit(0, a, x) }
	:: d_step { stores[1] ? a, x -> commit(1, a, x) }
#if WRITERS > 2
	:: d_step { stores[2] ? a, x -> commit(2, a, x) }
#endif
	od
}

/* Has somebody passed over ticket g of writer v? In one step, for properties and
 * for what a waiter waits for. */
#if WRITERS > 2
#define VOID(v, g) ((v != 0 && revoked[v] >= g) || (v != 1 && revoked[WRITERS + v] >= g) || (v != 2 && revoked[2 * WRITERS + v] >= g))
#define ALL(what) (what(0) && what(1) && what(2))
#else
#define VOID(v, g) ((v != 0 && revoked[v] >= g) || (v != 1 && revoked[WRITERS + v] >= g))
#define ALL(what) (what(0) && what(1))
#endif
#define RESTS(w) ((settled[w] || !alive[w]) && len(stores[w]) == 0)
#define DEAD(w) (!alive[w])
#define VOID_HOLDER(v) (v == w || !holds[v] || VOID(v, holds[v]))
/* A valid record stands. */
#define HALF (2 * (version % 2))
#define STANDS (buffer[HALF] != 0 && buffer[HALF] == buffer[HALF + 1] && VERSION(buffer[HALF]) == version && !VOID(WRITER(buffer[HALF]), TICKET(buffer[HALF])))

/* The same as the code does it: word by word. The own words are known without
 * looking. The first load may be one behind a fence. */
inline passed_over(v, g, fenced) {
	atomic { alive[w] == me && fenced -> answer = false; k = (v == 0 -> 1 : 0);
		 answer = (k == w -> mine[v] : revoked[k * WRITERS + v]) >= g; k = k + 1 + (k + 1 == v -> 1 : 0) };
	do
	:: k >= WRITERS -> k = 0; break
	:: atomic { k < WRITERS && alive[w] == me -> answer = answer || (k == w -> mine[v] : revoked[k * WRITERS + v]) >= g; k = k + 1 + (k + 1 == v -> 1 : 0) }
	od
}

/* Lock.pass: the store, the fence comes with the next load. */
#define PASS(j, g) if :: mine[j] < g -> mine[j] = g; STORE(A_REVOKED + j, g) :: else fi

inline look(j, fenced) {
	atomic { alive[w] == me && fenced -> s = state[j] };
#if RESTARTS
	atomic { alive[w] == me -> t = ticket[j] };
	atomic { alive[w] == me -> n = incarnation[j] }
#else
	atomic { alive[w] == me -> t = ticket[j]; n = incarnation[j] }
#endif
}

#define CHANGED (state[by] != by_state || ticket[by] != by_ticket || incarnation[by] != by_incarnation || (by_state == COMPETING && VOID(by, by_ticket)) || VOID(w, own))

proctype agent(byte w; byte me) {
	byte own;		/* our ticket */
	byte mine[WRITERS];	/* our revoked words */
	byte chooser[WRITERS];	/* 1 + incarnation of who is passed over while it chooses */
	byte chooser_ticket[WRITERS];
	byte s, t, n;		/* what look saw */
	byte k, j;
	byte by, by_state, by_ticket, by_incarnation;	/* the blocker */
	bool blocked, answer;
	byte v, left;

	/* newLock: the slot's former agent is gone, with all its stores done. */
	atomic {
		alive[w] == me -> own = ticket[w];
		k = 0;
		do
		:: k < WRITERS -> mine[k] = revoked[w * WRITERS + k]; k++
		:: else -> k = 0; break
		od;
		left = PUBLICATIONS;
		STORE(A_STATE, IDLE); STORE(A_INCARNATION, me)
	};

choose:	/* Lock.choose */
#ifndef MUTANT_no_choosing
	atomic { alive[w] == me -> STORE(A_STATE, CHOOSING) };
	FENCED_CHOOSING;
#endif
	k = 0;
	do
	:: k == w -> k++
	:: k == WRITERS -> k = 0; break
	:: k < WRITERS && k != w ->
		atomic { alive[w] == me -> t = ticket[k]; own = (own < t -> t : own); t = 0 };
		atomic { alive[w] == me -> t = revoked[k * WRITERS + w]; own = (own < t -> t : own); t = 0 };
		k++
	od;
	atomic { alive[w] == me -> own++; STORE(A_TICKET, own); STORE(A_STATE, COMPETING) };
	FENCED_TICKET;

queue:	/* Lock.firstBlocker */
	j = 0; blocked = false;
	do
	:: j == w -> j++
	:: j == WRITERS -> j = 0; break
	:: j < WRITERS && j != w ->
		/* Lock.blockedBy */
		look(j, true);
		answer = true;
		if
		:: s == CHOOSING && chooser[j] == 1 + n && chooser_ticket[j] == t ->
			atomic { alive[w] == me -> PASS(j, own) };
			look(j, FENCED_REVOKED);
			answer = !(s == CHOOSING && chooser[j] == 1 + n && chooser_ticket[j] == t)
		:: else
		fi;
		if
		:: answer && s == COMPETING && !(own < t || own == t && w < j) ->
			passed_over(j, t, true);
			answer = !answer
		:: answer && s == COMPETING && (own < t || own == t && w < j) -> answer = false
		:: answer && s == IDLE -> answer = false
		:: else
		fi;
		if
		:: answer && (!blocked || by_state == CHOOSING || s != CHOOSING && t < by_ticket) ->
			blocked = true; by = j; by_state = s; by_ticket = t; by_incarnation = n
		:: else
		fi;
		answer = false; s = 0; t = 0; n = 0; j++
	od;
	if
	:: blocked -> goto wait
	:: else
	fi;
	passed_over(w, own, FENCED_HOLDING);
	if
	:: answer -> goto choose
	:: else
	fi;
	goto held;

wait:	/* shore.flush tries again; nothing comes of that before one of these changes. */
	atomic {
		if
		:: alive[w] == me && CHANGED -> blocked = false
#ifndef MUTANT_no_revocation
		:: alive[w] == me && !CHANGED && !alive[by] -> blocked = true
		:: alive[w] == me && !CHANGED && alive[by] && stalls > 0 -> stalls--; blocked = true
#endif
		fi
	};
	if
	:: blocked ->
		/* Lock.Revoke */
		blocked = false;
		look(by, true);
		atomic {
			alive[w] == me ->
			if
			:: s == by_state && t == by_ticket && n == by_incarnation && s == CHOOSING ->
				chooser[by] = 1 + n; chooser_ticket[by] = t; PASS(by, own)
			:: s == by_state && t == by_ticket && n == by_incarnation && s == COMPETING ->
				PASS(by, t)
			:: else
			fi;
			s = 0; t = 0; n = 0
		};
		FENCED_REVOKED
	:: else
	fi;
	by = 0; by_state = 0; by_ticket = 0; by_incarnation = 0;
	/* Lock.TryAcquire */
	passed_over(w, own, true);
	if
	:: answer -> answer = false; goto choose
	:: else -> goto queue
	fi;

held:	atomic { alive[w] == me -> holds[w] = own; PROVE(two_holders, VOID(w, own) || ALL(VOID_HOLDER)) };
	/* Guest.Publish */
	passed_over(w, own, true);
	if
	:: answer -> goto release
	:: else
	fi;
	atomic {
		alive[w] == me -> v = NEXT(version);
		if
		:: STORE(A_BUFFER + 2 * (v % 2), RECORD(w, own, v)); STORE(A_BUFFER + 2 * (v % 2) + 1, RECORD(w, own, v))
		:: STORE(A_BUFFER + 2 * (v % 2) + 1, RECORD(w, own, v)); STORE(A_BUFFER + 2 * (v % 2), RECORD(w, own, v))
		fi
	};
	passed_over(w, own, true);
	if
	:: answer -> goto release
	:: else
	fi;
	atomic { alive[w] == me -> STORE(A_VERSION, v); v = 0 };
	passed_over(w, own, FENCED);
	if
	:: !answer && left > 0 -> left--
	:: else
	fi;

release:	/* Lock.Release */
	atomic { alive[w] == me -> answer = false; v = 0; holds[w] = 0; STORE(A_STATE, IDLE); settled[w] = (left == 0) };
	if
	:: left > 0 -> goto choose
	:: else
	fi;
	/* shore.check, at the slow tick: what does not stand is shown again. */
#ifndef MUTANT_no_verify
	atomic { alive[w] == me && ALL(RESTS) && !STANDS -> settled[w] = false };
	goto choose
#endif
}

/* host is Host.ReadPublication. */
proctype host() {
	byte n, v, k;
	byte void_before[WRITERS];	/* ghost: what was void when the read began */
	short a, b;
	bool answer;
	do
	:: n < READS ->
		d_step {
			n++;
			k = 0;
			do
			:: k < WRITERS * WRITERS ->
				if
				:: k / WRITERS != k % WRITERS && revoked[k] > void_before[k % WRITERS] -> void_before[k % WRITERS] = revoked[k]
				:: else
				fi;
				k++
			:: else -> k = 0; break
			od;
			v = version
		};
		if
		:: a = buffer[2 * (v % 2)]; b = buffer[2 * (v % 2) + 1]
		:: b = buffer[2 * (v % 2) + 1]; a = buffer[2 * (v % 2)]
		fi;
		if
#ifdef MUTANT_no_checksum
		:: a != 0 && b != 0 && VERSION(a) == v ->
#else
		:: a != 0 && a == b && VERSION(a) == v ->
#endif
#ifndef MUTANT_no_fence_rule
			k = 0;
			do
			:: k == WRITER(a) -> k++
			:: k == WRITERS -> break
			:: k < WRITERS && k != WRITER(a) -> atomic { answer = answer || revoked[k * WRITERS + WRITER(a)] >= TICKET(a); k++ }
			od;
#endif
			if
			:: !answer ->
				d_step { PROVE(mixed_record, a == b) };
				d_step { PROVE(late_record, TICKET(a) > void_before[WRITER(a)]) }
			:: else
			fi
		:: else
		fi;
		d_step { a = 0; b = 0; v = 0; answer = false; k = 0; do :: k < WRITERS -> void_before[k] = 0; k++ :: else -> k = 0; break od }
	:: n == READS -> break
	od
}

/* life kills agents, starts them anew, and looks at the end. */
proctype life() {
	byte kills, births;
	byte w;
	do
	:: atomic { kills < KILLS ->
		kills++;
		select(w : 0 .. WRITERS - 1);
		if
		:: alive[w] ->
			alive[w] = 0; holds[w] = 0; settled[w] = false;
			if
			:: true	/* all its stores come true */
			:: true ->	/* those that others have not seen yet never do */
				do
				:: stores[w] ? _, _
				:: len(stores[w]) == 0 -> break
				od
			fi
		:: else
		fi;
		w = 0 }
	:: atomic { births < RESTARTS ->
		select(w : 0 .. WRITERS - 1);
		if
		:: !alive[w] && len(stores[w]) == 0 -> births++; alive[w] = 2; run agent(w, 2)
		:: else
		fi;
		w = 0 }
	:: break
	od;
	timeout ->
	d_step { PROVE(lock_stuck, ALL(RESTS)) };
	d_step { PROVE(nothing_shown, STANDS || ALL(DEAD)) }
}

init {
	byte w;
	atomic {
		version = 7;	/* near its wrap */
		do
		:: w < WRITERS -> alive[w] = 1; run agent(w, 1); w++
		:: else -> break
		od;
		run memory(); run host(); run life()
	}
}
