/*
 * lease.pml: two coordinators, their terms, ledgers and seats, and one guest
 * agent that obeys orders: internal/coordinator/election, host-agent/runner,
 * host-agent/ledger, Guest.ReadOrder of shmproto, guest-agent/runner and rotation.
 *
 * A coordinator can be killed or overtaken between any two steps: nothing here
 * knows a clock, so a lease counts as stale at any time (that is more than the
 * code allows). Its stores go through a store buffer. An order is the set of
 * guards that the member must not use, one bit for each; each decision adds one.
 * A cell is read whole: lock.pml shows why.
 *
 * A property is a global that becomes true when it is violated. README.md says
 * which code stands behind which line.
 */
#ifndef TERMS
#define TERMS 3
#endif
#ifndef DECISIONS
#define DECISIONS 2
#endif
#ifndef KILLS
#define KILLS 1		/* of coordinators; each is started again. At most 1. With CROSSED both are killed once
			 * besides, and one is started that has not the same seat number in the region */
#endif
#ifndef RESTARTS
#define RESTARTS 1	/* of the guest agent, with its memory lost, and of its Tor */
#endif
#ifndef TEARS
#define TEARS 0		/* how often the guest cannot read a cell, because it is being replaced */
#endif
#ifndef SPURIOUS
#define SPURIOUS 1	/* doorbells that nobody rang */
#endif

/* The properties. */
bool older_order;	/* an order takes effect although a newer one was visible, or was obeyed before */
bool lost_order;	/* an order takes effect, or has, that a newer acting term does not know */
bool term_acts_twice;	/* two coordinators act in one term */
bool false_receipt;	/* the agent says applied of what is not in force, or would not outlive Tor's restart */
bool order_unseen;	/* everybody is quiet, and the order of who acts is not in force */

#define PROVE(violated, ok) if :: !(ok) -> violated = true :: else fi; assert(!violated)

/* The ledger directory. */
bool claimed[TERMS + 1];
byte ledger[TERMS + 1];		/* the orders that a term's file holds */

/* Shared memory, by seat. A coordinator's seat of the region can be another than that
 * of the board: who starts takes what is free in each. */
byte board[2];			/* the lease board: no guest has it */
byte fenced[2];			/* the lease in the guest's region: a term */
byte cell_term[2], cell_order[2];
bool crossed;			/* each has the other's number there */
#define SEAT (s ^ crossed)	/* in the region, of who has board seat s */
byte receipt;			/* the order that the guest's publication says is applied */

bool doorbell;		/* an eventfd: any number of rings is one */
bool tick;			/* the slow tick */

/* The guest's Tor. */
byte option, file;

/* Stores of the coordinators. */
#define A_BOARD 0
#define A_FENCE 1
#define A_ORDER 2
chan stores[2] = [4] of { byte, byte, byte };	/* a dead one's come true before its seats are anybody's */

/* Ghosts. */
byte alive[2];			/* which start of a coordinator; 0: dead */
byte acting[2], mask_of[2];	/* its term, and what it has decided */
bool acted[TERMS + 1];
byte started[TERMS + 1];	/* the orders that a term began with */
byte obeyed[TERMS + 1];		/* the orders of a term that took effect */
byte highest_obeyed;
byte decisions;

#define COUNT(m) (((m) & 1) + (((m) >> 1) & 1) + (((m) >> 2) & 1))
#define MAX(a, b) ((a) > (b) -> (a) : (b))

inline commit(s, a, x, y) {
	if
	:: a == A_BOARD -> board[s] = x
	:: a == A_FENCE -> fenced[SEAT] = x
	:: a == A_ORDER -> cell_term[SEAT] = x; cell_order[SEAT] = y
	fi;
	s = 0; a = 0; x = 0; y = 0
}

proctype memory() {
	byte s, a, x, y;
	do
	:: d_step { stores[0] ? a, x, y -> s = 0; commit(s, a, x, y) }
	:: d_step { stores[1] ? a, x, y -> s = 1; commit(s, a, x, y) }
	od
}

/* runner.show: the board, then every region. */
inline show_lease(t) {
	atomic { alive[s] == me -> stores[s] ! A_BOARD, t, 0; stores[s] ! A_FENCE, t, 0 }
}

/* runner.write and link.ask: the store comes true later, and so may the doorbell,
 * or it is lost. */
#define WRITE_ORDER stores[s] ! A_ORDER, t, mask; if :: doorbell = true :: true fi

inline read_ledgers() {
	x = 1; mask = 0;
	do
	:: x >= t -> x = 0; break
	:: atomic { x < t && alive[s] == me -> mask = mask | ledger[x]; x++ }
	od
}

#define OUTRANKED (board[1 - s] > t)
/* Before each effect the board is looked at. BLIND: it is not, and the fence alone
 * must do. */
#ifdef BLIND
#define YIELDS false
#else
#define YIELDS OUTRANKED
#endif

proctype coordinator(byte s; byte me) {
	byte t, x, mask, new;

	/* election.New: the highest term that the board shows is shown on, whoever had our
	 * seat there: in the region we may have the other's. */
#ifdef MUTANT_fence_falls_at_restart
	show_lease(0);
#else
#ifdef MUTANT_fence_of_own_seat
	atomic { alive[s] == me -> t = board[s] };
#else
	atomic { alive[s] == me -> t = MAX(board[0], board[1]) };
#endif
	show_lease(t);
#endif

standby: atomic { acting[s] = 0; mask_of[s] = 0; mask = 0; new = 0; t = 0 };
	/* Machine.tick: ClaimTerm of the highest known term + 1. */
	atomic {
		alive[s] == me && !claimed[TERMS] ->
		t = 1;
		do
		:: claimed[t] -> t++
		:: !claimed[t] -> break
		od
	};
	atomic {
		alive[s] == me ->
		if
#ifdef MUTANT_claim_not_exclusive
		:: true -> claimed[t] = true
#else
		:: !claimed[t] -> claimed[t] = true
		:: claimed[t] -> goto standby
#endif
		fi
	};
#ifdef MUTANT_ledger_read_before_fence
	read_ledgers();
#endif
	/* FenceRegions */
#ifndef MUTANT_no_lease_shown
	show_lease(t);
#endif
#ifndef MUTANT_no_fence
	atomic { alive[s] == me && len(stores[s]) == 0 };
#endif
	/* ReadLedger */
#ifndef MUTANT_ledger_read_before_fence
	read_ledgers();
#endif
	/* WriteLedger */
	atomic { alive[s] == me -> ledger[t] = ledger[t] | mask };
	/* LedgerWritten */
	atomic { alive[s] == me -> if :: OUTRANKED -> goto standby :: else fi };
	/* Act */
	atomic {
		alive[s] == me ->
		PROVE(term_acts_twice, !acted[t]);
		acted[t] = true; started[t] = mask; acting[s] = t; mask_of[s] = mask;
		x = 1;
		do
		:: x < t -> PROVE(lost_order, (obeyed[x] & ~mask) == 0); x++
		:: else -> x = 0; break
		od
	};
	if
	:: mask ->	/* Coordinator.absorb: the member's publication is the first that we see */
		atomic { alive[s] == me -> WRITE_ORDER }
	:: else
	fi;
	do
	:: atomic { alive[s] == me && OUTRANKED -> goto standby }
	:: atomic { alive[s] == me && !YIELDS && decisions < DECISIONS ->
		new = 1 << decisions; decisions++ };
#ifdef MUTANT_order_before_ledger
		atomic { alive[s] == me -> mask = mask | new; WRITE_ORDER };
#endif
		/* runner.save */
		atomic { alive[s] == me -> mask = mask | new; ledger[t] = ledger[t] | new; mask_of[s] = mask; new = 0 };
#ifndef MUTANT_order_before_ledger
		/* runner.acting */
		atomic { alive[s] == me -> if :: YIELDS -> goto standby :: else -> WRITE_ORDER fi }
#endif
	od
}

#if TEARS
#define READS if :: torn = false :: tears < TEARS -> tears++; torn = true fi
#else
#define READS skip
#endif

/* Without both leases no order is obeyed. */
#ifdef MUTANT_unreadable_lease_ignored
#define UNREADABLE 0
#else
#define UNREADABLE 255
#endif

/* Guest.ReadOrder, then loop.readOrders and Machine.see. */
inline read_order() {
	d_step { newest = MAX(cell_term[0], cell_term[1]) };	/* ghost */
#ifdef MUTANT_leases_before_orders
	atomic { lease = fenced[0] };
	atomic { lease = MAX(lease, fenced[1]) };
#endif
	atomic { READS; b_term = (torn -> 0 : cell_term[0]); b_order = (torn -> 0 : cell_order[0]) };
	atomic {
		READS;
		if
		:: torn
#ifdef MUTANT_last_seat_wins
		:: !torn && cell_term[1] ->
#else
		:: !torn && (cell_term[1] > b_term || (cell_term[1] == b_term && COUNT(cell_order[1]) > COUNT(b_order))) ->
#endif
			b_term = cell_term[1]; b_order = cell_order[1]
		:: else
		fi
	};
#ifndef MUTANT_leases_before_orders
	atomic { READS; lease = (torn -> UNREADABLE : fenced[0]) };
	atomic { READS; lease = MAX(lease, (torn -> UNREADABLE : fenced[1])); torn = false };
#endif
	atomic {
		if
#ifdef MUTANT_no_lease_check
		:: b_term > o_term || (b_term == o_term && COUNT(b_order) > COUNT(o_order)) ->
#else
		:: b_term && lease <= b_term && (b_term > o_term || (b_term == o_term && COUNT(b_order) > COUNT(o_order))) ->
#endif
			o_term = b_term; o_order = b_order;
			PROVE(older_order, o_term >= newest && o_term >= highest_obeyed);
			highest_obeyed = MAX(highest_obeyed, o_term);
			obeyed[o_term] = obeyed[o_term] | o_order;
			x = o_term + 1;
			do
			:: x <= TERMS -> PROVE(lost_order, !acted[x] || (o_order & ~started[x]) == 0); x++
			:: else -> x = 0; break
			od
		:: else
		fi;
		b_term = 0; b_order = 0; lease = 0; newest = 0
	}
}

proctype guest() {
	byte o_term, o_order;	/* the order that is obeyed; term 0: none since our start */
	byte b_term, b_order, lease, newest, x;
	byte restarts, hups, tears;
	bool torn;
	do
	:: atomic { doorbell -> doorbell = false }; read_order()
	:: atomic { tick -> tick = false; tears = TEARS }; read_order()	/* the last of many ticks */
	/* Machine.reconcile: one thing at a time, option before file before receipt. */
	:: atomic { o_term && option != o_order -> option = o_order }
#ifdef MUTANT_receipt_before_effect
	:: atomic { o_term && receipt != o_order -> receipt = o_order; PROVE(false_receipt, receipt == option && receipt == file) }
#else
	:: atomic { o_term && option == o_order && file == o_order && receipt != o_order -> receipt = o_order; PROVE(false_receipt, receipt == option && receipt == file) }
#endif
#ifndef MUTANT_no_file
	:: atomic { o_term && option == o_order && file != o_order -> file = o_order }
#endif
	:: atomic { restarts < RESTARTS -> restarts++; o_term = 0; o_order = 0 }; read_order()
	:: atomic { hups < RESTARTS -> hups++; option = file }
	od
}

/* life kills and restarts coordinators, rings without reason, and looks at the end. */
proctype life() {
	byte kills, births, spurious, s;
	do
#ifdef CROSSED
	:: atomic { alive[0] == 1 && alive[1] == 1 ->
		alive[0] = 0; acting[0] = 0; mask_of[0] = 0; alive[1] = 0; acting[1] = 0; mask_of[1] = 0 };
	   atomic { len(stores[0]) == 0 && len(stores[1]) == 0 ->
		crossed = true; select(s : 0 .. 1); alive[s] = 2; run coordinator(s, 2); s = 0 }
#endif
	:: atomic { kills < KILLS -> kills++; select(s : 0 .. 1); alive[s] = 0; acting[s] = 0; mask_of[s] = 0; s = 0 }
	:: atomic { births < kills && (alive[0] || len(stores[0]) == 0) && (alive[1] || len(stores[1]) == 0) ->
		if
		:: !alive[0] -> alive[0] = 1 + kills; run coordinator(0, 1 + kills)
		:: else -> alive[1] = 1 + kills; run coordinator(1, 1 + kills)
		fi;
		births++ }
	:: atomic { spurious < SPURIOUS && !doorbell -> spurious++; doorbell = true }
	:: break
	od;
#ifndef MUTANT_no_slow_tick
	atomic { timeout -> tick = true };
#endif
	timeout ->
	/* Who acts in the highest term that anybody fenced with, if somebody does. */
	if
	:: acting[0] && acting[0] >= fenced[1 ^ crossed] -> d_step { PROVE(order_unseen, option == mask_of[0] && file == mask_of[0]) }
	:: acting[1] && acting[1] >= fenced[crossed] -> d_step { PROVE(order_unseen, option == mask_of[1] && file == mask_of[1]) }
	:: else
	fi
}

init {
	atomic {
		alive[0] = 1; alive[1] = 1;
		run coordinator(0, 1); run coordinator(1, 1); run guest(); run memory(); run life()
	}
}
