/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * Files that members of sessions open to write, and whom they connect to. Attached only where that is asked for.
 *
 * A file is looked at when the system call that opened it has returned: behind the descriptor that it gave, so its path, inode and
 * mode are what the kernel has come to, whatever was in the caller's memory. So is a connection of TCP, at the moment when the kernel
 * begins to make it. Of datagrams to an address, and of what was refused, there is only the address as the caller has it in its
 * memory when the call returns; that is said (AS_GIVEN).
 *
 * Guarantee: these records are numbered as those of execs are. They leave half of a container's rate and half of the ring to those.
 */
#pragma once

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define STREAM 1
#define TCP 6
#define MPTCP 262
#define SYN_SENT 2
#define IS_BLOCK 0060000
#define FILE_WRITABLE 2
#define FILE_WITHOUT_CONTENT 0x4000
#define FILE_CREATED 0x100000
#define OPEN_FOR_WRITING 01
#define OPEN_CREATES 0100
#define OPEN_TRUNCATES 01000
#define LONGEST_NAME 108

struct file___opened { unsigned int f_flags, f_mode; } RELOCATED;
struct pt_regs___more { unsigned long r8, r9; } RELOCATED;
struct in6_addr { __u8 bytes[16]; };
struct sock_common {
	unsigned short skc_family, skc_dport;
	unsigned int skc_daddr;
	struct in6_addr skc_v6_daddr;
} RELOCATED;
struct sock { struct sock_common __sk_common; __u16 sk_type, sk_protocol; } RELOCATED;
struct socket { struct sock *sk; } RELOCATED;
struct sockaddr_un { unsigned short sun_family; } RELOCATED;
struct unix_address { int len; struct sockaddr_un name[1]; } RELOCATED;
struct unix_sock { struct sock sk; struct unix_address *addr; struct path path; struct sock *peer; } RELOCATED;
/* As programs give them. */
struct sockaddr { __u16 family, port; __u32 flow; __u8 address[16]; __u32 scope; };
struct message { __u64 name; __u32 length; };

volatile const __u32 with_files = 0;       /* tell of files that are opened to write */
volatile const __u32 with_connections = 0; /* tell of connections */

enum call_kind { OPENS = 1, CONNECTS, SENDS, SENDS_MESSAGE };
struct call {
	__u64 first, second, third, fifth, sixth; /* arguments */
	__u32 kind;
	__u64 flags; /* of open */
};

/* Whether it is a call that opens, connects or sends. Arguments are in registers: no other thread changes them. */
INLINE int understand_call(void *registers, struct call *call, struct task_struct *task)
{
	struct pt_regs___x86 *x86 = registers;
	struct pt_regs___more *more = registers;
	struct pt_regs___arm *arm = registers;
	struct task_struct___x86 *of = (void *)task;
	int is_x86 = EXISTS(x86, orig_ax);
	__u64 number;
	if (is_x86) {
		number = GET(x86, orig_ax);
		if (GET(of, thread_info.status) & COMPATIBLE) {
			call->first = GET(x86, bx);
			call->second = (__u32)GET(x86, cx);
			call->third = GET(x86, dx);
			call->kind = number == 362 ? CONNECTS : OPENS;
			switch (number) {
			case 5: call->flags = call->second; return 1; /* open */
			case 8: call->flags = OPEN_FOR_WRITING | OPEN_CREATES | OPEN_TRUNCATES; return 1; /* creat */
			case 295: /* openat, open_by_handle_at, openat2 */
			case 342:
			case 437: call->flags = call->third; return number != 437 || !probe_read_user(&call->flags, 8, (void *)(__u64)(__u32)call->third);
			case 362: return 1;
			}
			return 0;
		}
		call->first = GET(x86, di);
		call->second = GET(x86, si);
		call->third = GET(x86, dx);
		call->fifth = GET(more, r8);
		call->sixth = GET(more, r9);
	} else {
		number = GET(arm, syscallno);
		call->first = GET(arm, orig_x0);
		call->second = GET(arm, regs[1]);
		call->third = GET(arm, regs[2]);
		call->fifth = GET(arm, regs[4]);
		call->sixth = GET(arm, regs[5]);
	}
	call->kind = OPENS;
	if (number == CALL(257, 56) || number == CALL(304, 265)) { /* openat, open_by_handle_at */
		call->flags = call->third;
		return 1;
	}
	if (number == 437) /* openat2 */
		return !probe_read_user(&call->flags, sizeof(call->flags), (void *)call->third);
	if (is_x86 && (number == 2 || number == 85)) { /* open, creat */
		call->flags = number == 2 ? call->second : OPEN_FOR_WRITING | OPEN_CREATES | OPEN_TRUNCATES;
		return 1;
	}
	call->kind = CONNECTS;
	if (number == CALL(42, 203))
		return 1;
	call->kind = SENDS;
	if (number == CALL(44, 206)) /* sendto */
		return call->fifth != 0;
	call->kind = SENDS_MESSAGE;
	return number == CALL(46, 211) || number == CALL(307, 269); /* sendmsg; of sendmmsg the first */
}

/* The session in which this task's files and connections are told of. */
INLINE struct session *told_of(struct task_struct *task, __u64 *id)
{
	int adopted;
	struct session *session = session_of(task, id, &adopted);
	if (!session || session->kind != INIT)
		return session;
	/* It is told when it is known that somebody is looking into a pod. */
	if (map_lookup(&wishes, id))
		return session;
	add(&session->unwanted);
	return 0;
}

INLINE void tell_file(struct task_struct *task, __u32 descriptor, __u64 flags)
{
	__u64 id;
	int whole;
	struct file *file = file_behind(task, descriptor);
	if (!file)
		return;
	struct inode *inode = READ(file, f_inode);
	__u16 kind = READ((struct inode___kind *)inode, i_mode) & KIND_OF_FILE;
	__u32 mode = READ((struct file___opened *)file, f_mode);
	if ((kind != IS_REGULAR && kind != IS_BLOCK) || (mode & FILE_WITHOUT_CONTENT))
		return;
	if (!(mode & (FILE_WRITABLE | FILE_CREATED)) && !(flags & OPEN_TRUNCATES))
		return;
	struct session *session = told_of(task, &id);
	if (!session)
		return;
	add(&session->files);
	struct draft *draft_ = draft(FILE_OPENED, session, id);
	if (!draft_)
		return;
	describe(&draft_->process, task);
	draft_->opened = (struct opened){
		.inode = READ(inode, i_ino), .device = READ(READ(inode, i_sb), s_dev), .links = READ(inode, i_nlink),
		.flags = READ((struct file___opened *)file, f_flags), .mode = mode, .asked = flags, .kind = kind,
	};
	draft_->opened.path = walk_path(GET(task, fs), READ(file, f_path.mnt), READ(file, f_path.dentry), 0, &whole);
	if (!whole)
		draft_->head.flags |= PATH_CUT;
	tell(draft_, session, __builtin_offsetof(struct draft, texts) + (draft_->opened.path & (TEXTS - 1)));
}

INLINE void address_of(struct sock *sock, struct connected *to)
{
	to->family = READ(sock, __sk_common.skc_family);
	to->protocol = READ(sock, sk_protocol);
	to->type = READ(sock, sk_type);
	to->port = READ(sock, __sk_common.skc_dport);
	if (to->family == AF_INET)
		probe_read_kernel(to->address, 4, &sock->__sk_common.skc_daddr);
	else if (to->family == AF_INET6 && EXISTS(sock, __sk_common.skc_v6_daddr))
		probe_read_kernel(to->address, 16, &sock->__sk_common.skc_v6_daddr);
}

/* An address as a program gave it; whether it says where to. */
INLINE int as_given(struct draft *draft, __u64 from, __u32 length)
{
	struct connected *to = &draft->connected;
	struct sockaddr given = {};
	to->how |= AS_GIVEN;
	if (length < 3 || probe_read_user(&given, 2, (void *)from))
		return 0;
	to->family = given.family;
	if (given.family == AF_UNIX) {
		length -= 2;
		if (length > LONGEST_NAME)
			length = LONGEST_NAME;
		BARRIER(length);
		length &= 127;
		if (probe_read_user(draft->texts, length, (void *)(from + 2)))
			return 0;
		to->name = length;
		return 1;
	}
	if (given.family == AF_INET && length >= 16 && !probe_read_user(&given, 16, (void *)from)) {
		to->port = given.port;
		*(__u32 *)to->address = given.flow;
		return 1;
	}
	if (given.family == AF_INET6 && length >= 24 && !probe_read_user(&given, 24, (void *)from)) {
		to->port = given.port;
		for (int at = 0; at < 16; at++)
			to->address[at] = given.address[at];
		return 1;
	}
	return 0;
}

/* Whom a local socket has come to: by the path that the other one was bound to, or its name. */
INLINE int local_peer(struct draft *draft, struct task_struct *task, struct sock *sock)
{
	struct connected *to = &draft->connected;
	struct sock *other = READ((struct unix_sock *)sock, peer);
	struct unix_sock *peer = (void *)other;
	int whole;
	if (!peer)
		return 0;
	struct dentry *at = READ(peer, path.dentry);
	if (at) {
		to->how |= IN_COMPONENTS;
		to->name = walk_path(GET(task, fs), READ(peer, path.mnt), at, 0, &whole);
		if (!whole)
			draft->head.flags |= PATH_CUT;
		return 1;
	}
	struct unix_address *address = READ(peer, addr);
	__u32 length = address ? READ(address, len) - 2 : 0;
	if (!length || length > LONGEST_NAME)
		return 0;
	BARRIER(length);
	length &= 127;
	const char *name = (const char *)address + OFFSET(struct unix_address, name) + 2;
	if (probe_read_kernel(draft->texts, length, name))
		return 0;
	to->name = length;
	return 1;
}

INLINE struct sock *socket_behind(struct task_struct *task, __u32 descriptor)
{
	struct file *file = file_behind(task, descriptor);
	struct inode *inode = file ? READ(file, f_inode) : 0;
	if (!inode || (READ((struct inode___kind *)inode, i_mode) & KIND_OF_FILE) != IS_SOCKET)
		return 0;
	struct socket *socket = READ((struct file___private *)file, private_data);
	return READ(socket, sk);
}

INLINE void tell_socket(struct task_struct *task, struct call *call, long result)
{
	__u64 id, address = call->second;
	__u32 length = call->third;
	if (call->kind == SENDS) {
		address = call->fifth;
		length = call->sixth;
	} else if (call->kind == SENDS_MESSAGE) {
		struct message message = {};
		if (probe_read_user(&message, 12, (void *)call->second) || !message.name)
			return;
		address = message.name;
		length = message.length;
	}
	struct sock *sock = socket_behind(task, call->first);
	if (!sock)
		return;
	__u16 family = READ(sock, __sk_common.skc_family), type = READ(sock, sk_type), protocol = READ(sock, sk_protocol);
	if (family != AF_UNIX && family != AF_INET && family != AF_INET6)
		return;
	/* Those are told of when they begin; and a stream has one other end. */
	if (family != AF_UNIX && (protocol == TCP || protocol == MPTCP))
		return;
	if (call->kind != CONNECTS && type == STREAM)
		return;
	struct session *session = told_of(task, &id);
	if (!session)
		return;
	__u16 asked = 0;
	probe_read_user(&asked, sizeof(asked), (void *)address);
	/* AF_UNSPEC: it is connected to nobody from now on. */
	if (call->kind == CONNECTS && !asked)
		return;
	add(&session->connections);
	struct draft *draft_ = draft(CONNECTED, session, id);
	if (!draft_)
		return;
	describe(&draft_->process, task);
	struct connected *to = &draft_->connected;
	*to = (struct connected){ .result = result < 0 ? result : 0, .how = call->kind == CONNECTS ? 0 : SENT | AS_GIVEN };
	address_of(sock, to);
	int is_known = 0;
	if (call->kind == CONNECTS && result >= 0)
		is_known = family == AF_UNIX ? local_peer(draft_, task, sock) : 1;
	if (!is_known)
		as_given(draft_, address, length);
	tell(draft_, session, __builtin_offsetof(struct draft, texts) + (to->name & (TEXTS - 1)));
}

/* A file was opened, or something sent or connected to that is no TCP. */
SEC("tp_btf/sys_exit")
int on_open(__u64 *arguments)
{
	struct task_struct *task = current_task();
	long result = arguments[1];
	struct call call = {};
	__u64 since = begin_run(OPEN_RUNS);
	if (understand_call((void *)arguments[0], &call, task)) {
		if (call.kind == OPENS) {
			if (with_files && result >= 0)
				tell_file(task, result, call.flags);
		} else if (with_connections) {
			tell_socket(task, &call, result);
		}
	}
	end_run(OPEN_SAMPLED, since);
	return 0;
}

/* The kernel begins to make a connection: the address is the one that it goes to. */
INLINE void tell_connection(struct sock *sock)
{
	__u64 id;
	struct task_struct *task = current_task();
	if (READ(sock, sk_protocol) != TCP)
		return;
	struct session *session = told_of(task, &id);
	if (!session)
		return;
	add(&session->connections);
	struct draft *draft_ = draft(CONNECTED, session, id);
	if (!draft_)
		return;
	describe(&draft_->process, task);
	draft_->connected = (struct connected){ .how = BEGUN };
	address_of(sock, &draft_->connected);
	tell(draft_, session, __builtin_offsetof(struct draft, texts));
}

SEC("tp_btf/inet_sock_set_state")
int on_connect(__u64 *arguments)
{
	__u64 since = begin_run(CONNECT_RUNS);
	if ((__s32)arguments[2] == SYN_SENT)
		tell_connection((void *)arguments[0]);
	end_run(CONNECT_SAMPLED, since);
	return 0;
}
