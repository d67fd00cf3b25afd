/*
 * conflict.pml: claims, conflicts and the exclusions that resolve them, with
 * members that move at any later time, and a coordinator that is killed between
 * any two effects: internal/coordinator (claims.go, conflict.go, plan.go,
 * orders.go), host-agent/runner (effects.go), guest-agent/rotation.
 *
 * A step of the core is one step here, as it is there. Each member has one
 * primary: the first guard of its sample that is neither excluded nor down. All
 * samples have the same guards in the same order, which is the worst case.
 *
 * A property is a global that becomes true when it is violated. README.md says
 * which code stands behind which line.
 */
#ifndef MEMBERS
#define MEMBERS 2
#endif
#ifndef GUARDS
#define GUARDS 3
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef DOWNS
#define DOWNS 2		/* how often a member finds a guard down or up again, and so leaves it and comes back */
#endif
#ifndef DEAF
#define DEAF MEMBERS	/* this member obeys no order; MEMBERS: all obey */
#endif

/* The properties. */
bool both_moved;	/* two members were told to give one guard up in favour of each other */
bool incumbent_moved;	/* the member that came first was told to move */
bool guard_taken_back;	/* an exclusion ended within its hold */
bool unresolved;	/* everybody is quiet, two members share a guard, and nobody was told */
bool moved_into_conflict;	/* a member was led to a guard that another one has */

#define PROVE(violated, ok) if :: !(ok) -> violated = true :: else fi; assert(!violated)

/* What the core holds; [member * GUARDS + guard]. The ledger is the same: a step is
 * durable whole or not at all, and what was not made durable is forgotten. */
#define NONE 0
#define LIVE 1
#define RETAINED 2
byte claim[MEMBERS * GUARDS];
byte stamp[MEMBERS * GUARDS];
bool used[MEMBERS * GUARDS];
byte excluded[MEMBERS * GUARDS];	/* 1 + in whose favour */
byte stamps;
byte expects[MEMBERS];			/* 1 + the guard that it is on its way to; not durable */
bool stuck[MEMBERS];			/* the operator was told that it cannot move */

/* The regions: what members show, and their orders, a bit for each guard. */
byte shown[MEMBERS];			/* 1 + primary; 0: nothing yet */
byte shown_down[MEMBERS];
byte cell[MEMBERS];

/* The members' Tors. */
byte in_force[MEMBERS], down[MEMBERS];
bool in_use[MEMBERS];			/* whether their primary carries circuits */

bool fresh[MEMBERS];			/* ghost: what is shown has not been read since */
bool seen[MEMBERS];			/* the present coordinator has read its publication */

#define AT(m, g) ((m) * GUARDS + (g))
#define BIT(g) (1 << (g))

/* Strengths of an obstacle, as in conflict.go. */
#define FREE 0
#define TOLERATED 1
#define KEPT 2		/* retained */
#define RESERVED 3
#define HELD 4

/* What stands in m's way at g, where it is (mine) or where it could go: visit.meet. */
inline obstacle(m, g, mine) {
	strength = FREE; other = 0; i = 0;
	do
	:: i < MEMBERS ->
		if
		:: i != m && claim[AT(i, g)] != NONE ->
			spared = (excluded[AT(i, g)] == 1 + m);
#ifdef MUTANT_favour_forgotten
			spared = false;
#endif
			yields = mine && excluded[AT(m, g)] == 1 + i;
			first = mine && stamp[AT(m, g)] < stamp[AT(i, g)];
#ifdef MUTANT_no_stamps
			first = false;
#endif
			if
			:: !mine && spared -> s = FREE
			:: mine && ((spared && !yields) || (spared && first) || (first && !excluded[AT(m, g)] && !yields)) -> s = FREE
			:: else ->
				if
				:: claim[AT(i, g)] == LIVE && !excluded[AT(i, g)] -> s = HELD
				:: claim[AT(i, g)] == LIVE && excluded[AT(i, g)] && mine && excluded[AT(m, g)] -> s = RESERVED
				:: else ->
					if
					:: !used[AT(i, g)] -> s = FREE
					:: used[AT(i, g)] && mine && used[AT(m, g)] -> s = TOLERATED
					:: else -> s = KEPT
					fi
				fi
			fi;
			if
			:: s > strength || (s == strength && s > FREE && stamp[AT(i, g)] < stamp[AT(other, g)]) -> strength = s; other = i
			:: else
			fi
		:: else
		fi;
#ifndef MUTANT_no_reservations
		if
		:: i != m && !mine && expects[i] == 1 + g && strength < RESERVED -> strength = RESERVED; other = i
		:: else
		fi;
#endif
		i++
	:: else -> break
	od;
	i = 0; s = 0; spared = false; yields = false; first = false
}

/* Where m would go with the exclusions all: publication.primaries. */
inline successor(m, all) {
	next = 0;
	do
	:: next < GUARDS && ((all & BIT(next)) || (shown_down[m] & BIT(next))) -> next++
	:: else -> break
	od
}

/* Coordinator.plan and solve. */
inline plan(m) {
	mask = 0; moving = false; g = 0;
	do
	:: g < GUARDS ->
		if
		:: excluded[AT(m, g)] -> mask = mask | BIT(g); moving = moving || claim[AT(m, g)] == LIVE
		:: else
		fi;
		g++
	:: else -> break
	od;
	expects[m] = 0;
	g = shown[m] - 1;
	obstacle(m, g, (claim[AT(m, g)] == LIVE));
	open = (claim[AT(m, g)] == LIVE && strength >= KEPT && !(mask & BIT(g)));
#ifdef MUTANT_used_guards_stay
	open = open && !used[AT(m, g)];
#endif
	if
	:: open || moving ->
		why = other; level = strength; stuck[m] = true; least = KEPT;
		if
		:: !open -> least = RESERVED
		:: else
		fi;
		do
		:: least <= RESERVED && stuck[m] ->
			added = 0;
			if
			:: open && level >= least -> added = BIT(g)
			:: else
			fi;
			successor(m, mask | added);
			do
			:: next < GUARDS ->
				obstacle(m, next, false);
				if
				:: strength >= least -> added = added | BIT(next); favour[next] = 1 + other; successor(m, mask | added)
				:: else -> break
				fi
			:: else -> break
			od;
			if
			:: next < GUARDS && (!open || (added & BIT(g))) -> stuck[m] = false
			:: else -> least++
			fi
		:: else -> break
		od;
		if
		:: !stuck[m] && (added != 0) ->
			if
			:: added & BIT(g) ->
				favour[g] = 1 + why;
				PROVE(both_moved, excluded[AT(why, g)] != 1 + m);
				PROVE(incumbent_moved, claim[AT(why, g)] != LIVE || stamp[AT(why, g)] < stamp[AT(m, g)])
			:: else
			fi;
			g = 0;
			do
			:: g < GUARDS ->
				if
				:: added & BIT(g) -> excluded[AT(m, g)] = favour[g]
				:: else
				fi;
				favour[g] = 0; g++
			:: else -> break
			od;
			mask = mask | added; orders = orders | BIT(m)
		:: else
		fi;
		if
		:: !stuck[m] -> expects[m] = 1 + next
		:: else
		fi;
#ifdef MUTANT_operator_not_told
		stuck[m] = false;
#endif
		if
		:: stuck[m] && !open -> stuck[m] = false
		:: else
		fi
	:: else -> stuck[m] = false
	fi;
	g = 0;
	do
	:: g < GUARDS -> favour[g] = 0; g++
	:: else -> g = 0; break
	od;
	added = 0; next = 0; least = 0; level = 0; why = 0; strength = 0; other = 0; mask = 0; open = false; moving = false
}

/* Where an order led a member there is nobody; a killed coordinator forgets what
 * was reserved, and a guard that is down leads elsewhere. */
#if KILLS == 0 && DOWNS == 0
#define PROVE_LED(m, g) obstacle(m, g, true); PROVE(moved_into_conflict, !in_force[m] || strength < HELD)
#else
#define PROVE_LED(m, g) skip
#endif

/* Coordinator.reclaim */
inline reclaim(m) {
	g = 0;
	do
	:: g < GUARDS ->
		if
		:: g == shown[m] - 1 ->
			if
			:: claim[AT(m, g)] != LIVE -> stamps++; claim[AT(m, g)] = LIVE; stamp[AT(m, g)] = stamps; used[AT(m, g)] = used[AT(m, g)] || in_use[m];
				PROVE_LED(m, g)
			:: else
			fi
		:: g != shown[m] - 1 && claim[AT(m, g)] == LIVE ->
			claim[AT(m, g)] = (used[AT(m, g)] -> RETAINED : NONE);
			stamp[AT(m, g)] = (used[AT(m, g)] -> stamp[AT(m, g)] : 0)
		:: else
		fi;
#ifdef MUTANT_no_hold
		if
		:: excluded[AT(m, g)] && claim[AT(excluded[AT(m, g)] - 1, g)] != LIVE && g != shown[m] - 1 -> excluded[AT(m, g)] = 0; orders = orders | BIT(m)
		:: else
		fi;
#endif
		g++
	:: else -> g = 0; break
	od
}
inline write(m) {
	g = 0; mask = 0;
	do
	:: g < GUARDS -> mask = mask | (excluded[AT(m, g)] -> BIT(g) : 0); g++
	:: else -> g = 0; break
	od;
	PROVE(guard_taken_back, (cell[m] & ~mask) == 0);
	cell[m] = mask; mask = 0
}

#ifdef MUTANT_order_before_ledger
byte c_claim[MEMBERS * GUARDS], c_stamp[MEMBERS * GUARDS], c_excluded[MEMBERS * GUARDS];
bool c_used[MEMBERS * GUARDS];
byte c_stamps;
inline snapshot_take() {
	i = 0; do :: i < MEMBERS * GUARDS -> c_claim[i] = claim[i]; c_stamp[i] = stamp[i]; c_excluded[i] = excluded[i]; c_used[i] = used[i]; i++ :: else -> i = 0; break od;
	c_stamps = stamps
}
inline snapshot_back() {
	i = 0; do :: i < MEMBERS * GUARDS -> claim[i] = c_claim[i]; stamp[i] = c_stamp[i]; excluded[i] = c_excluded[i]; used[i] = c_used[i];
		c_claim[i] = 0; c_stamp[i] = 0; c_excluded[i] = 0; c_used[i] = false; i++ :: else -> i = 0; break od;
	stamps = c_stamps; c_stamps = 0
}
#endif

proctype coordinator() {
	byte m, g, i, k, next, strength, other, why, level, least, added, mask, s, orders, kills;
	byte favour[GUARDS];
	bool mine, spared, yields, first, open, moving;
	do
	:: atomic {	/* runner.read: a publication, of any member */
		if
		:: fresh[0] -> m = 0
		:: fresh[1] -> m = 1
#if MEMBERS > 2
		:: fresh[2] -> m = 2
#endif
		fi;
		if
		:: true -> k = 0	/* all of it comes about */
		:: kills < KILLS -> k = 1	/* killed before the ledger is written */
		:: kills < KILLS -> k = 2	/* killed behind it, before the orders are */
		fi };
		atomic {
		if
#ifdef MUTANT_order_before_ledger
		:: k == 1 ->	/* decided and shown, but never durable */
			d_step { snapshot_take(); reclaim(m); plan(m); write(m); snapshot_back(); orders = 0 }
#else
		:: k == 1
#endif
		:: k != 1 ->
			d_step { fresh[m] = false; reclaim(m) };
			d_step { if :: !seen[m] -> orders = orders | BIT(m); seen[m] = true :: else fi; plan(m) };
			i = 0;
			d_step { k = k + 4; level = 0 };
			/* Whoever it matters for is planned again. */
			d_step { if :: m != 0 && shown[0] && seen[0] -> plan(0) :: else fi };
			d_step { if :: m != 1 && shown[1] && seen[1] -> plan(1) :: else fi };
#if MEMBERS > 2
			d_step { if :: m != 2 && shown[2] && seen[2] -> plan(2) :: else fi };
#endif
			k = k - 4
		fi;
		if
		:: k == 0 ->
			d_step { if :: orders & BIT(0) -> write(0) :: else fi; if :: orders & BIT(1) -> write(1) :: else fi
#if MEMBERS > 2
				; if :: orders & BIT(2) -> write(2) :: else fi
#endif
			}
		:: else ->	/* the next one knows what is durable, and reads everything */
			kills++;
			d_step { m = 0; do :: m < MEMBERS -> expects[m] = 0; stuck[m] = false; seen[m] = false; fresh[m] = (shown[m] != 0); m++ :: else -> m = 0; break od }
		fi;
		m = 0; k = 0; orders = 0 }
	od
}

#define FIRST(x) ((x) & 1 -> ((x) & 2 -> ((x) & 4 -> 3 : 2) : 1) : 0)
#define PUBLISHES(m) (FIRST(in_force[m] | down[m]) < GUARDS && (shown[m] != 1 + FIRST(in_force[m] | down[m]) || shown_down[m] != down[m]))
#define PRIMARY(m) p = FIRST(in_force[m] | down[m])

/* A member: its Tor, and its agent, which obeys and shows what is. */
proctype member(byte m) {
	byte p, changes;
	do
	:: atomic { m != DEAF && in_force[m] != cell[m] -> in_force[m] = cell[m] }
	:: atomic { changes < DOWNS -> changes++; if :: down[m] = down[m] ^ 1 :: down[m] = down[m] ^ 2 fi }
	:: d_step { PUBLISHES(m) -> PRIMARY(m); shown[m] = 1 + p; shown_down[m] = down[m]; fresh[m] = true; p = 0 }
	od
}
/* They do not share a guard, or somebody is stuck and the operator was told, or an
 * order stands unanswered and he was told that. Both have used it: reported. */
#define SHARED(a, b) (shown[a] != shown[b] || stuck[a] || stuck[b] || cell[a] != in_force[a] || cell[b] != in_force[b])

proctype end() {
	timeout ->
	d_step { PROVE(unresolved, SHARED(0, 1)) }
#if MEMBERS > 2
	d_step { PROVE(unresolved, SHARED(0, 2) && SHARED(1, 2)) }
#endif
}
init {
	byte m;
	atomic {
		do
		:: m < MEMBERS -> if :: in_use[m] = true :: in_use[m] = false fi; run member(m); m++
		:: else -> break
		od;
		run coordinator(); run end()
	}
}
