/* The fence, for SPIN: who may move a partition's position, and what a replica knows after an answer was lost.
 *
 * Two replicas read two partitions of three messages. A replica leases a partition by raising its epoch, and commits
 * batches: rows and positions in one step, if every partition of the batch is still at the replica's epoch and where it
 * left it. Any replica may lease any partition at any time: whoever was leased before is a zombie, and goes on trying.
 * One answer of a commit may be lost, once before and once after the commit; one replica may crash; the circuit breaker
 * may stop a partition, and an operator let it go on.
 *
 * What must hold is asserted: no message is written twice, those below the position are all written, none above it, and
 * a replica that still has the epoch knows the position.
 *
 * Each step prints a line "STEP ..." in a simulation; these are replayed on the real code.
 */
#define REPLICAS 2
#define PARTITIONS 2
#define MESSAGES 3
#ifndef LEASES
#define LEASES 3 /* of each partition, at most */
#endif

#define I(r, p) ((r) * PARTITIONS + (p))
#define HOLDS(r, p) (epoch_of[I(r, p)] > 0)
#define FITS(r, p, n) ((n) == 0 || (epoch_of[I(r, p)] == epoch[p] && at[I(r, p)] == position[p]))
#define LANDED(r, p, n) ((n) == 0 || (epoch_of[I(r, p)] == epoch[p] && at[I(r, p)] + (n) == position[p]))

byte position[PARTITIONS], epoch[PARTITIONS];
bit tripped[PARTITIONS];
byte written[PARTITIONS * MESSAGES];
byte epoch_of[REPLICAS * PARTITIONS], at[REPLICAS * PARTITIONS];
byte in_doubt[REPLICAS]; /* 1: the commit may have happened and did; 2: it did not */
byte doubt_0[REPLICAS], doubt_1[REPLICAS];
byte crashes = 1, lost_after = 1, lost_before = 1, trips = 1;

inline lease(r, p) {
    epoch[p]++;
    if
    :: tripped[p] -> epoch_of[I(r, p)] = 0
    :: else -> epoch_of[I(r, p)] = epoch[p]; at[I(r, p)] = position[p]
    fi;
    printf("STEP lease %d %d %d %d %d\n", r, p, epoch[p], position[p], tripped[p])
}

inline write(r, p, n) {
    k = 0;
    do
    :: k < n ->
        written[p * MESSAGES + position[p]]++;
        assert(written[p * MESSAGES + position[p]] == 1);
        position[p]++;
        k++
    :: else -> break
    od
}

inline move(r, n0, n1) {
    at[I(r, 0)] = at[I(r, 0)] + n0;
    at[I(r, 1)] = at[I(r, 1)] + n1
}

inline fenced(r, n0, n1) {
    if
    :: n0 > 0 -> epoch_of[I(r, 0)] = 0
    :: else
    fi;
    if
    :: n1 > 0 -> epoch_of[I(r, 1)] = 0
    :: else
    fi
}

inline choose(r, p, n) { /* how many of a partition's next messages the batch has */
    n = 0;
    do
    :: HOLDS(r, p) && at[I(r, p)] + n < MESSAGES && n < 2 -> n++
    :: break
    od
}

inline check() {
    p = 0;
    do
    :: p < PARTITIONS ->
        k = 0;
        do
        :: k < MESSAGES -> assert(written[p * MESSAGES + k] == (k < position[p])); k++
        :: else -> break
        od;
        assert(in_doubt[me] || epoch_of[I(me, p)] != epoch[p] || at[I(me, p)] == position[p]);
        p++
    :: else -> break
    od;
    n0 = 0; n1 = 0; k = 0; p = 0 /* no states that differ in nothing else */
}

active [REPLICAS] proctype replica() {
    byte me = _pid, n0, n1, k, p;
    do
    :: atomic { !in_doubt[me] && epoch[0] < LEASES -> lease(me, 0); check() }
    :: atomic { !in_doubt[me] && epoch[1] < LEASES -> lease(me, 1); check() }
    :: atomic {
        !in_doubt[me] && (HOLDS(me, 0) || HOLDS(me, 1)) ->
        choose(me, 0, n0);
        choose(me, 1, n1);
        if
        :: n0 + n1 == 0
        :: n0 + n1 > 0 && !(FITS(me, 0, n0) && FITS(me, 1, n1)) ->
            fenced(me, n0, n1);
            printf("STEP fenced %d %d %d\n", me, n0, n1)
        :: n0 + n1 > 0 && FITS(me, 0, n0) && FITS(me, 1, n1) ->
            write(me, 0, n0);
            write(me, 1, n1);
            move(me, n0, n1);
            printf("STEP commit %d %d %d\n", me, n0, n1)
        :: n0 + n1 > 0 && FITS(me, 0, n0) && FITS(me, 1, n1) && lost_after > 0 ->
            lost_after--;
            write(me, 0, n0);
            write(me, 1, n1);
            in_doubt[me] = 1;
            doubt_0[me] = n0;
            doubt_1[me] = n1;
            printf("STEP lost_after %d %d %d\n", me, n0, n1)
        :: n0 + n1 > 0 && lost_before > 0 ->
            lost_before--;
            in_doubt[me] = 2;
            doubt_0[me] = n0;
            doubt_1[me] = n1;
            printf("STEP lost_before %d %d %d\n", me, n0, n1)
        fi;
        check()
    }
    :: atomic {
        in_doubt[me] > 0 ->
        n0 = doubt_0[me];
        n1 = doubt_1[me];
        if
        :: FITS(me, 0, n0) && FITS(me, 1, n1) ->
            write(me, 0, n0);
            write(me, 1, n1);
            move(me, n0, n1);
            printf("STEP retry %d written\n", me)
        :: else ->
            if
            :: in_doubt[me] == 1 && LANDED(me, 0, n0) && LANDED(me, 1, n1) ->
                move(me, n0, n1);
                printf("STEP retry %d landed\n", me)
            :: else ->
                fenced(me, n0, n1);
                printf("STEP retry %d fenced\n", me)
            fi
        fi;
        in_doubt[me] = 0;
        check()
    }
    :: atomic {
        crashes > 0 ->
        crashes--;
        epoch_of[I(me, 0)] = 0;
        epoch_of[I(me, 1)] = 0;
        in_doubt[me] = 0;
        printf("STEP crash %d\n", me)
    }
    :: atomic {
        !in_doubt[me] && trips > 0 && HOLDS(me, 0) ->
        trips--;
        if
        :: epoch_of[I(me, 0)] == epoch[0] -> tripped[0] = 1
        :: else
        fi;
        epoch_of[I(me, 0)] = 0;
        printf("STEP trip %d 0 %d\n", me, tripped[0])
    }
    :: atomic { tripped[0] -> tripped[0] = 0; printf("STEP reset 0\n") }
    :: position[0] == MESSAGES && position[1] == MESSAGES && !in_doubt[me] -> break
    od
}
