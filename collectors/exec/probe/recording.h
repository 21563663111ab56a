/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * What is typed and shown in a session: pieces of it in a ring of their own, so that they displace nothing else.
 *
 * A session that owns its terminal is recorded at the terminal's far end, where the runtime reads what is shown and writes what was
 * typed: what is inside has no hand in it. Any other one is recorded where its members read from what was the standard input of its
 * first program, and write to what were its outputs, whatever descriptors those are by then.
 *
 * These programs are attached only while a session is open that is to be recorded: they look at every system call of the machine.
 *
 * Guarantee: each piece has a number in its session, given before it is known whether it can be told; what is not told is counted
 * by why. What is typed while the terminal echoes nothing is told as a length only.
 */
#pragma once

/* Bytes of a piece at most, and how many pieces one system call makes at most. */
#define PIECE_MOST 4096
#define PIECES_AT_ONCE 64
/* What a piece counts besides its bytes against the bound of its session. */
#define PIECE_COST 32

#define PTMX (5 << 20 | 2)
#define FIRST_SLAVE 136
#define LAST_SLAVE 143
#define IS_CANONICAL 2
#define ECHOES 8
#define KIND_OF_FILE 0170000
#define IS_SOCKET 0140000
#define IS_REGULAR 0100000
#define IS_DEVICE 0020000
#define IS_PIPE 0010000
#define ENDED_FAR -5 /* EIO: nobody has the terminal open any more */
#define COMPATIBLE 2
#define FORESEEN_AGAIN 100000000ULL
/* The bound of what is undecided. */
#define UNDECIDED_BYTES (256 << 10)

enum stream { INPUT, OUTPUT, ERROR };

/* Of a piece. */
enum piece_flag {
	REDACTED = 1, /* its bytes are not told: the terminal did not echo them */
	CUT = 2,      /* from here on nothing is told: the session has its bytes */
};

struct piece {
	struct head head; /* its number is that in the recording */
	__u32 pid;        /* who moved it: of a terminal, at its far end */
	__u16 stream;
	__u16 flags;
	__u32 moved;      /* bytes; of them, those that follow */
	__u16 rows, columns; /* of the terminal; 0: there is none */
};

/* Of a session, in the map `recordings`, until user space takes it out. */
struct recording {
	__u64 container;
	__u64 numbers;  /* that were given out */
	__u64 lost;     /* of them, not told: the ring was full */
	__u64 lost_bytes;
	__u64 charged;  /* against the bound */
	__u64 input, output; /* bytes that were moved, told or not */
	__u64 cut;      /* of them, not told: over the bound, or not to be read */
	__u64 unseen;   /* bytes moved without passing through a program's memory */
	__u64 redacted; /* bytes typed that the terminal did not echo */
	__u64 terminal; /* its near end; 0: it owns none */
	__u64 closed;   /* when nobody had that open any more; 0: not yet */
	__u64 begun;    /* when who came was there, and could have typed or shown anything */
	__u64 files[3]; /* what lay behind the first program's descriptors; 0: nothing that is recorded */
	__u64 inodes[3];
	__u64 undecided; /* it is of a container's first process, and it is not known yet whether that is somebody who looks into a pod */
};

/* Pieces and bytes that user space has not put down. */
struct refusal { __u64 pieces, bytes; };

struct inode___kind { unsigned short i_mode; unsigned int i_rdev; } RELOCATED;
struct file___private { void *private_data; } RELOCATED;
struct tty_file_private { struct tty_struct *tty; } RELOCATED;
struct ktermios { unsigned int c_lflag; } RELOCATED;
struct winsize { unsigned short ws_row, ws_col; } RELOCATED;
struct tty_struct___ends { struct tty_struct *link; struct ktermios termios; struct winsize winsize; } RELOCATED;
struct thread_info___x86 { unsigned int status; } RELOCATED;
struct task_struct___x86 { struct thread_info___x86 thread_info; } RELOCATED;
struct pt_regs { int unused; };
struct pt_regs___x86 { unsigned long di, si, dx, r10, bx, cx, orig_ax; } RELOCATED;
struct pt_regs___arm { unsigned long long regs[31]; unsigned long long orig_x0; int syscallno; } RELOCATED;
struct iovec { __u64 base, length; };

static __u64 (*current_pid_tgid)(void) = (void *)14;

volatile const __u32 with_recording = 0;     /* sessions are recorded */
volatile const __u32 with_debug = 0;         /* containers that are added to a pod are, too: so each new one of a pod, until it is known */
volatile const __u64 pieces_wake_at = 1 << 20; /* bytes of pieces that wait before user space is woken */
volatile const __u64 session_bytes = 8 << 20; /* bound of each */

struct { NUMBER(type, MAP_RINGBUF); NUMBER(max_entries, 4 << 20); } pieces SEC(".maps");
struct { NUMBER(type, MAP_HASH); NUMBER(max_entries, 4096); TYPE(key, __u64); TYPE(value, struct recording); } recordings SEC(".maps");
/* Near ends of terminals, and whose session each is. */
struct { NUMBER(type, MAP_HASH); NUMBER(max_entries, 4096); TYPE(key, __u64); TYPE(value, __u64); } terminals SEC(".maps");
/* When user space has attached these programs; 0: they are not. */
struct { NUMBER(type, MAP_ARRAY); NUMBER(max_entries, 1); TYPE(key, __u32); TYPE(value, __u64); } attached SEC(".maps");
/* That somebody may come into a container soon: a ring of its own, whose reader has nothing else to do. */
struct { NUMBER(type, MAP_RINGBUF); NUMBER(max_entries, 1 << 16); } foreseen SEC(".maps");
/* Containers in which nothing is recorded, as far as user space knows. Only user space writes here. */
struct { NUMBER(type, MAP_HASH); NUMBER(max_entries, 4096); TYPE(key, __u64); TYPE(value, __u32); } unrecorded SEC(".maps");
/* By session. Only user space writes here. */
struct { NUMBER(type, MAP_HASH); NUMBER(max_entries, 4096); TYPE(key, __u64); TYPE(value, struct refusal); } refused SEC(".maps");
/* Threads that are writing what a terminal does not echo. */
struct { NUMBER(type, MAP_HASH); NUMBER(max_entries, 4096); TYPE(key, __u64); TYPE(value, __u32); } unechoed SEC(".maps");

struct piece_draft { struct piece piece; __u8 bytes[2 * PIECE_MOST]; };
struct { NUMBER(type, MAP_PERCPU_ARRAY); NUMBER(max_entries, 1); TYPE(key, __u32); TYPE(value, struct piece_draft); } piece_drafts SEC(".maps");
struct { NUMBER(type, MAP_PERCPU_ARRAY); NUMBER(max_entries, 1); TYPE(key, __u32); TYPE(value, struct recording); } new_recordings SEC(".maps");

/* ---- Before a session: user space is told that one may begin soon, so that it attaches these programs. ---- */

/* Into this container; 0: nobody knows into which. Not again within a while, unless he is there `now`. */
OUTLINE int foresee(__u64 container, __u32 now)
{
	__u32 zero = 0;
	__u64 *last = number(FORETOLD), *into = number(FORETOLD_OF), time = ktime_get_boot_ns();
	/* No piece is drafted: there is room, which the stack has not. */
	struct piece_draft *draft = map_lookup(&piece_drafts, &zero);
	if (!last || !into || !draft || (!now && *into == container && time - *last < FORESEEN_AGAIN))
		return 0;
	if (map_lookup(&unrecorded, &container))
		return 0;
	*last = time;
	*into = container;
	draft->piece.head = (struct head){ .length = sizeof(struct head), .kind = FORESEEN, .time = time, .container = container };
	ringbuf_output(&foreseen, &draft->piece.head, sizeof(struct head), FORCE_WAKEUP);
	return 1;
}

/* A program that brings others into containers, past what puts them into a cgroup; by what it is called: in vain at worst. */
INLINE void foresee_by_name(void)
{
	__u64 name = 0;
	struct task_struct *task = current_task();
	probe_read_kernel(&name, sizeof(name), &task->comm);
	/* As a little-endian machine has it. */
	if (name == 0x7265746e65736eULL /* nsenter */)
		foresee(0, 0);
}

/* A task of no session that is made in another cgroup than its parent's. */
INLINE void foresee_by_fork(struct task_struct *parent, struct task_struct *child)
{
	if (GET(parent, cgroups) == GET(child, cgroups))
		return;
	__u64 container = READ(cgroup_of(child), id);
	if (map_lookup(&containers, &container))
		foresee(container, 0);
}

/* Whether a container's cgroup lies in that of a pod: `pod…`, or `kubepods…pod….slice`. */
INLINE int is_in_pod(struct kernfs_node *node)
{
	__u64 name = 0;
	probe_read_kernel(&name, sizeof(name), READ(around(node), name));
	/* As a little-endian machine has it. */
	return (name & 0xffffff) == 0x646f70 /* pod */ || name == 0x73646f706562756bULL /* kubepods */;
}

/* A runtime puts a process into a container's cgroup before that goes in. */
SEC("tp_btf/cgroup_attach_task")
int on_attach(__u64 *arguments)
{
	struct cgroup *to = (void *)arguments[0];
	struct kernfs_node *node = READ(to, kn);
	__u64 container = READ(node, id);
	if (map_lookup(&containers, &container) || (with_debug && is_in_pod(node) && is_container((__u64)node)))
		foresee(container, 0);
	return 0;
}

/* ---- The beginning of one. ---- */

INLINE struct file *file_behind(struct task_struct *task, __u32 descriptor)
{
	struct fdtable *table = GET(GET(task, files), fdt);
	struct file *file = 0;
	if (descriptor >= GET(table, max_fds))
		return 0;
	probe_read_kernel(&file, sizeof(file), GET(table, fd) + descriptor);
	return file;
}

INLINE __u32 device_of(struct inode *inode)
{
	if ((READ((struct inode___kind *)inode, i_mode) & KIND_OF_FILE) != IS_DEVICE)
		return 0;
	return READ((struct inode___kind *)inode, i_rdev);
}

INLINE int is_near_end(__u32 device)
{
	return device >> 20 >= FIRST_SLAVE && device >> 20 <= LAST_SLAVE;
}

INLINE int is_recorded_file(struct inode *inode)
{
	__u16 kind = READ((struct inode___kind *)inode, i_mode) & KIND_OF_FILE;
	return kind == IS_PIPE || kind == IS_SOCKET || kind == IS_REGULAR || is_near_end(device_of(inode));
}

/* Whether a process leads its process session, and so owns the terminal of that. */
INLINE int leads(struct task_struct *task)
{
	struct pid *group = 0;
	struct signal_struct *signal = GET(task, signal);
	probe_read_kernel(&group, sizeof(group), (const char *)signal + OFFSET(struct signal_struct, pids) + PIDTYPE_SID * sizeof(group));
	return group == GET(GET(task, group_leader), thread_pid);
}

/* A session begins with the program of the current task: it is recorded from here on. Whether it can be, and nobody records yet. */
OUTLINE int record_entry(__u64 id, __u32 by)
{
	struct task_struct *task = current_task();
	__u32 zero = 0;
	struct session *session = map_lookup(&sessions, &id);
	struct recording *recording = map_lookup(&new_recordings, &zero);
	__u64 *since = map_lookup(&attached, &zero);
	/* The runtime's own program on its way is not who came. */
	if (!recording || !since || !session || (session->arriving && (by & IN_CGROUP)))
		return 0;
	/* Of a container's first process it is not known yet whether somebody looks into a pod by that. */
	if (session->kind != ENTERED && !(with_debug && session->kind == INIT && is_in_pod(cgroup_of(task))))
		return 0;
	*recording = (struct recording){ .container = session->container, .begun = ktime_get_boot_ns(), .undecided = session->kind == INIT };
	struct tty_struct *terminal = GET(GET(task, signal), tty);
	if (leads(task))
		recording->terminal = (__u64)terminal;
	for (__u32 descriptor = 0; descriptor < 3 && !recording->terminal; descriptor++) {
		struct file *file = file_behind(task, descriptor);
		struct inode *inode = file ? READ(file, f_inode) : 0;
		if (inode && is_recorded_file(inode)) {
			recording->files[descriptor] = (__u64)inode;
			recording->inodes[descriptor] = READ(inode, i_ino);
		}
	}
	if (map_update(&recordings, &id, recording, ANY))
		return 0;
	if (recording->terminal)
		map_update(&terminals, &recording->terminal, &id, ANY);
	return !*since;
}

/* The current task has begun a program. By itself, for the stack: what it calls does not call each other. */
INLINE int record_exec(__u64 id, __u32 is_entry, __u32 by)
{
	if (!id) {
		foresee_by_name();
	} else if (is_entry && record_entry(id, by)) {
		struct session *session = map_lookup(&sessions, &id);
		if (session)
			foresee(session->container, 1);
	}
	return 0;
}

/* ---- What a system call has moved. ---- */

struct moved {
	struct file *file;
	struct inode *inode;
	__u64 from;    /* of memory, or of a vector of memory */
	__u64 vectors; /* entries of that; 0: it is none */
	__u32 descriptor;
	__u32 other;   /* into which it was moved without passing through memory */
	__u16 is_write;
	__u16 is_unseen;
};

/* Numbers of system calls, as x86 and everybody else have them. */
#define CALL(x86, other) (is_x86 ? x86 : other)

/* Whether it is a call that reads or writes, and which. */
INLINE int understand(void *registers, struct moved *moved, struct task_struct *task)
{
	struct pt_regs___x86 *x86 = registers;
	struct pt_regs___arm *arm = registers;
	struct task_struct___x86 *of = (void *)task;
	int is_x86 = EXISTS(x86, orig_ax);
	__u64 call, first, second, third;
	if (is_x86) {
		call = GET(x86, orig_ax);
		if (GET(of, thread_info.status) & COMPATIBLE) {
			/* Of 32 bits: read and write. */
			if (call != 3 && call != 4)
				return 0;
			*moved = (struct moved){ .descriptor = GET(x86, bx), .from = (__u32)GET(x86, cx), .is_write = call == 4 };
			return 1;
		}
		first = GET(x86, di);
		second = GET(x86, si);
		third = GET(x86, dx);
	} else {
		call = GET(arm, syscallno);
		first = GET(arm, orig_x0);
		second = GET(arm, regs[1]);
		third = GET(arm, regs[2]);
	}
	*moved = (struct moved){ .descriptor = first, .other = first, .from = second };
	if (call == CALL(0, 63) || call == CALL(45, 207)) /* read, recvfrom */
		return 1;
	if (call == CALL(1, 64) || call == CALL(44, 206)) { /* write, sendto */
		moved->is_write = 1;
		return 1;
	}
	if (call == CALL(19, 65) || call == CALL(20, 66)) { /* readv, writev */
		moved->is_write = call == CALL(20, 66);
		moved->vectors = third;
		return 1;
	}
	moved->is_unseen = 1;
	if (call == CALL(40, 71)) { /* sendfile: to, from */
		moved->descriptor = second;
		return 1;
	}
	if (call == CALL(275, 76) || call == CALL(326, 285)) { /* splice, copy_file_range: from, its place, to */
		moved->other = third;
		return 1;
	}
	return 0;
}

INLINE struct tty_struct *terminal_of(struct file *file)
{
	struct tty_file_private *private = READ((struct file___private *)file, private_data);
	return READ(private, tty);
}

INLINE struct tty_struct *near_end_of(struct file *file)
{
	return READ((struct tty_struct___ends *)terminal_of(file), link);
}

INLINE int is_quiet(struct tty_struct *near)
{
	unsigned int modes = READ((struct tty_struct___ends *)near, termios.c_lflag);
	return (modes & IS_CANONICAL) && !(modes & ECHOES);
}

/* A write that is about to put into a terminal what that does not echo: by the time it has returned it may echo again. */
SEC("tp_btf/sys_enter")
int on_enter(__u64 *arguments)
{
	struct task_struct *task = current_task();
	struct moved moved;
	if (!understand((void *)arguments[0], &moved, task) || !moved.is_write)
		return 0;
	struct file *file = file_behind(task, moved.descriptor);
	if (!file || device_of(READ(file, f_inode)) != PTMX)
		return 0;
	__u64 near = (__u64)near_end_of(file);
	if (!map_lookup(&terminals, &near) || !is_quiet((void *)near))
		return 0;
	__u64 who = current_pid_tgid();
	__u32 one = 1;
	map_update(&unechoed, &who, &one, ANY);
	return 0;
}

struct telling {
	__u64 session, from, here, left, vector;
	__u64 vectors;
	__u32 pid;
	__u16 stream, flags;
	__u16 rows, columns;
};

/* Tells a piece of so many bytes, which are there already. */
INLINE void tell_piece(struct piece_draft *draft, struct recording *recording, struct telling *what, __u64 moved, __u64 length)
{
	struct piece *piece = &draft->piece;
	*piece = (struct piece){ .pid = what->pid, .stream = what->stream, .flags = what->flags, .moved = moved };
	piece->rows = what->rows;
	piece->columns = what->columns;
	piece->head.kind = PIECE;
	piece->head.time = ktime_get_boot_ns();
	piece->head.session = what->session;
	piece->head.container = recording->container;
	piece->head.number = __sync_fetch_and_add(&recording->numbers, 1);
	if (length > PIECE_MOST)
		length = PIECE_MOST;
	piece->head.length = sizeof(*piece) + length;
	__sync_fetch_and_add(&recording->charged, length + PIECE_COST);
	__u64 flags = ringbuf_query(&pieces, AVAILABLE_DATA) >= pieces_wake_at ? FORCE_WAKEUP : NO_WAKEUP;
	if (ringbuf_output(&pieces, draft, sizeof(*piece) + length, flags)) {
		add(&recording->lost);
		__sync_fetch_and_add(&recording->lost_bytes, length);
	}
}

/* Whether a session has had its bytes. */
INLINE int has_all(struct recording *recording, __u64 id)
{
	__u64 most = session_bytes;
	if (recording->undecided && most > UNDECIDED_BYTES && !map_lookup(&wishes, &id))
		most = UNDECIDED_BYTES;
	return recording->charged >= most;
}

static long next_piece(__u32 times, struct telling *what)
{
	__u32 zero = 0;
	struct piece_draft *draft = map_lookup(&piece_drafts, &zero);
	struct recording *recording = map_lookup(&recordings, &what->session);
	if (!draft || !recording || has_all(recording, what->session))
		return 1;
	if (!what->here) {
		struct iovec next;
		if (!what->vectors || probe_read_user(&next, sizeof(next), (void *)what->vector))
			return 1;
		what->vectors--;
		what->vector += sizeof(next);
		what->from = next.base;
		what->here = next.length;
		return 0;
	}
	__u64 length = what->here < what->left ? what->here : what->left;
	if (length > PIECE_MOST)
		length = PIECE_MOST;
	BARRIER(length);
	length &= 2 * PIECE_MOST - 1;
	if (probe_read_user(draft->bytes, length, (void *)what->from))
		return 1;
	tell_piece(draft, recording, what, length, length);
	what->from += length;
	what->here -= length;
	what->left -= length;
	return what->left == 0;
}

/* Tells what was moved, or counts it. */
OUTLINE int tell_moved(__u64 id, __u64 from, __u64 count_, __u32 vectors, __u32 how)
{
	__u32 zero = 0;
	struct piece_draft *draft = map_lookup(&piece_drafts, &zero);
	struct recording *recording = map_lookup(&recordings, &id);
	if (!draft || !recording)
		return 0;
	struct telling what = { .session = id, .pid = current_pid_tgid() >> 32, .stream = how & 3, .left = count_ };
	__u64 terminal = recording->terminal;
	if (terminal) {
		what.rows = READ((struct tty_struct___ends *)terminal, winsize.ws_row);
		what.columns = READ((struct tty_struct___ends *)terminal, winsize.ws_col);
	}
	__sync_fetch_and_add(what.stream == INPUT ? &recording->input : &recording->output, count_);
	if (how & 8) {
		__sync_fetch_and_add(&recording->unseen, count_);
		return 0;
	}
	if (how & 4) {
		__sync_fetch_and_add(&recording->redacted, count_);
		what.flags = REDACTED;
		if (!has_all(recording, id))
			tell_piece(draft, recording, &what, count_, 0);
		return 0;
	}
	what.vectors = vectors;
	if (vectors) {
		what.vector = from;
	} else {
		what.from = from;
		what.here = count_;
	}
	loop(PIECES_AT_ONCE, next_piece, &what, 0);
	if (!what.left)
		return 0;
	__u64 before = __sync_fetch_and_add(&recording->cut, what.left);
	if (!before && has_all(recording, id)) {
		what.flags = CUT;
		tell_piece(draft, recording, &what, 0, 0);
	}
	return 0;
}

/* At the far end of a terminal: whose it is, and whether what was written is not to be told. */
INLINE __u64 at_far_end(struct moved *moved, long result, __u32 *how)
{
	__u64 near = (__u64)near_end_of(moved->file);
	__u64 *id = map_lookup(&terminals, &near);
	__u64 who = current_pid_tgid();
	if (!id)
		return 0;
	struct recording *recording = map_lookup(&recordings, id);
	if (!recording)
		return 0;
	if (!moved->is_write) {
		if (result == ENDED_FAR)
			recording->closed = ktime_get_boot_ns();
		*how = OUTPUT;
		return *id;
	}
	int was_quiet = map_lookup(&unechoed, &who) != 0;
	if (was_quiet)
		map_delete(&unechoed, &who);
	*how = INPUT | (was_quiet || is_quiet((void *)near) ? 4 : 0);
	return *id;
}

/* By a member of a session: which of its streams a file is; -1 for none. */
INLINE int stream_of(struct recording *recording, struct inode *inode, int is_write)
{
	__u64 address = (__u64)inode, serial;
	if (!address)
		return -1;
	serial = READ(inode, i_ino);
	if (!is_write)
		return recording->files[0] == address && recording->inodes[0] == serial ? INPUT : -1;
	if (recording->files[1] == address && recording->inodes[1] == serial)
		return OUTPUT;
	return recording->files[2] == address && recording->inodes[2] == serial ? ERROR : -1;
}

/* Without passing through memory: one system call may take from one stream and give to another. */
INLINE void unseen(struct task_struct *task, struct recording *recording, __u64 id, struct moved *moved, __u64 count_)
{
	struct file *to = file_behind(task, moved->other);
	if (stream_of(recording, moved->inode, 0) == INPUT)
		tell_moved(id, 0, count_, 0, INPUT | 8);
	if (to && stream_of(recording, READ(to, f_inode), 1) > 0)
		tell_moved(id, 0, count_, 0, OUTPUT | 8);
}

SEC("tp_btf/sys_exit")
int on_leave(__u64 *arguments)
{
	struct task_struct *task = current_task();
	long result = arguments[1];
	struct moved moved;
	__u32 how = 0;
	__u64 id = 0;
	if (!understand((void *)arguments[0], &moved, task))
		return 0;
	moved.file = file_behind(task, moved.descriptor);
	if (!moved.file)
		return 0;
	moved.inode = READ(moved.file, f_inode);
	__u32 device = device_of(moved.inode);
	if (device == PTMX) {
		id = at_far_end(&moved, result, &how);
		if (moved.is_unseen)
			how |= 8;
	} else {
		struct tag *tag = task_storage_get(&tags, task, 0, 0);
		if (!tag || !tag->session)
			return 0;
		struct recording *recording = map_lookup(&recordings, &tag->session);
		if (!recording || recording->terminal)
			return 0;
		if (moved.is_unseen) {
			if (result > 0)
				unseen(task, recording, tag->session, &moved, result);
			return 0;
		}
		int stream = stream_of(recording, moved.inode, moved.is_write);
		if (stream < 0)
			return 0;
		how = stream;
		if (stream == INPUT && is_near_end(device) && is_quiet(terminal_of(moved.file)))
			how |= 4;
		id = tag->session;
	}
	if (id && result > 0)
		tell_moved(id, moved.from, result, moved.vectors, how);
	return 0;
}
