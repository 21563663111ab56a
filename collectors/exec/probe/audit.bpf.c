/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The probe of exec audit: who came into a container from outside, and every process that came of it.
 *
 * A process that comes into a container begins a session; its descendants are the session's members, wherever they move, by
 * task storage that is handed on at fork. It comes in when, at its exec, its surroundings are not its parent's: another
 * container's cgroup, or a namespace that a container's first process brought with it. A container's first process and its
 * descendants are a session too (INIT), of which the beginning is told, and the rest only if user space asks.
 *
 * Guarantee: each record of a session has a number, given before it is known whether the record can be told. So whoever
 * reads the records knows which are missing, and `lost` and `limited` in the session say why. A session ends when its last
 * member does. It stays in the map `sessions` until that was told: what user space finds there without members it ends itself.
 */
#include "kernel.h"
#include "record.h"

char _license[] SEC("license") = "GPL";

/* Set by user space before loading. */
volatile const __u32 whole_node = 0;      /* tell every exec and exit of the machine */
volatile const __u32 with_environment = 0; /* tell the environment of members; that of an entry is always told */
volatile const __u64 wake_at = 0;          /* bytes that wait in the ring before user space is woken; 0: at each record */
volatile const __u64 ring_bytes = 16 << 20;
volatile const __u32 rate = 5000;          /* records of a container in a second */
volatile const __u32 burst = 20000;        /* and at once */
volatile const __u32 machine[NAMESPACES];  /* inodes of the namespaces that are no container's; 0: not known */

#define UNDECIDED_RECORDS 64
#define GENERATIONS 16
#define SECOND 1000000000ULL
#define MOST_COMPONENTS 64
#define ID_LENGTH 64
#define NAME_LENGTH 160

struct tag { __u64 session; };

struct { NUMBER(type, MAP_RINGBUF); NUMBER(max_entries, 16 << 20); } records SEC(".maps");
struct { NUMBER(type, MAP_TASK_STORAGE); NUMBER(map_flags, NO_PREALLOC); TYPE(key, int); TYPE(value, struct tag); } tags SEC(".maps");
struct { NUMBER(type, MAP_HASH); NUMBER(max_entries, 16384); TYPE(key, __u64); TYPE(value, struct session); } sessions SEC(".maps");
struct { NUMBER(type, MAP_HASH); NUMBER(max_entries, 4096); TYPE(key, __u64); TYPE(value, struct container); } containers SEC(".maps");
/* Inodes of namespaces that containers brought with them. */
struct { NUMBER(type, MAP_HASH); NUMBER(max_entries, 16384); TYPE(key, __u32); TYPE(value, __u64); } namespaces SEC(".maps");
struct { NUMBER(type, MAP_PERCPU_ARRAY); NUMBER(max_entries, COUNTS); TYPE(key, __u32); TYPE(value, __u64); } counts SEC(".maps");
/* Processes that are older than the probe, by pid, and whose session they are. User space puts them here; they leave at their end. */
struct { NUMBER(type, MAP_HASH); NUMBER(max_entries, 16384); TYPE(key, __u32); TYPE(value, __u64); } adoptions SEC(".maps");
/* What user space wishes of sessions. */
struct { NUMBER(type, MAP_HASH); NUMBER(max_entries, 4096); TYPE(key, __u64); TYPE(value, __u32); } wishes SEC(".maps");
struct { NUMBER(type, MAP_ARRAY); NUMBER(max_entries, NUMBERS); TYPE(key, __u32); TYPE(value, __u64); } numbers SEC(".maps");

/* Places in a draft's texts are below TEXTS, and what is read at one is no longer than LONGEST. */
#define TEXTS 0x4000
#define LONGEST 8192
struct draft {
	struct head head;
	struct process process;
	union {
		struct exec exec;
		struct exit exit;
		struct opened opened;
		struct connected connected;
	};
	/* Directly behind an exec. A session that has ended reaches into it. */
	__u8 texts[TEXTS + LONGEST];
};
_Static_assert(__builtin_offsetof(struct draft, texts) == __builtin_offsetof(struct draft, exec) + sizeof(struct exec), "a gap");
struct { NUMBER(type, MAP_PERCPU_ARRAY); NUMBER(max_entries, 1); TYPE(key, __u32); TYPE(value, struct draft); } drafts SEC(".maps");

INLINE void count(__u32 what)
{
	__u64 *counted = map_lookup(&counts, &what);
	if (counted)
		*counted += 1;
}

/* Of so many runs on a processor one is timed. */
#define SAMPLED 64

/* Counts a run of a hook; when it began, if it is timed, else 0. */
INLINE __u64 begin_run(__u32 runs)
{
	__u64 *counted = map_lookup(&counts, &runs);
	if (!counted)
		return 0;
	*counted += 1;
	return *counted % SAMPLED ? 0 : ktime_get_ns();
}

INLINE void end_run(__u32 sampled, __u64 since)
{
	if (!since)
		return;
	__u64 *runs = map_lookup(&counts, &sampled);
	sampled += 1;
	__u64 *time = map_lookup(&counts, &sampled);
	if (!runs || !time)
		return;
	*runs += 1;
	*time += ktime_get_ns() - since;
}

INLINE void add(__u64 *to)
{
	__sync_fetch_and_add(to, 1);
}

/* ---- What a task is and where. ---- */

INLINE struct pid_namespace *pid_namespace_of(struct task_struct *task, __u32 *number, __u32 *level)
{
	struct pid *pid = GET(task, thread_pid);
	struct upid own = {};
	*level = GET(pid, level);
	const char *each = (const char *)pid + OFFSET(struct pid, numbers);
	probe_read_kernel(&own, sizeof(own), each + *level * sizeof(struct upid));
	*number = own.nr;
	return own.ns;
}

/* The cgroup that a runtime puts containers into: that of the pids controller where version 1 has it, else version 2's. */
INLINE struct cgroup *whole_cgroup_of(struct task_struct *task)
{
	struct css_set *set = GET(task, cgroups);
	struct cgroup *unified = GET(set, dfl_cgrp);
	if (__builtin_preserve_enum_value(*(typeof(enum cgroup_subsys_id) *)pids_cgrp_id, 0)) {
		__u64 index = __builtin_preserve_enum_value(*(typeof(enum cgroup_subsys_id) *)pids_cgrp_id, 1);
		const char *each = (const char *)set + OFFSET(struct css_set, subsys);
		struct cgroup_subsys_state *state = *(struct cgroup_subsys_state **)(each + index * sizeof(state));
		if (state) {
			struct cgroup *own = GET(state, cgroup);
			if (GET(own, root) != GET(unified, root))
				return own;
		}
	}
	return unified;
}

INLINE struct kernfs_node *cgroup_of(struct task_struct *task)
{
	return READ(whole_cgroup_of(task), kn);
}

INLINE struct kernfs_node *around(struct kernfs_node *node)
{
	struct kernfs_node___hidden *newer = (void *)node;
	struct kernfs_node___parent *older = (void *)node;
	if (EXISTS(newer, __parent))
		return READ(newer, __parent);
	return READ(older, parent);
}

/* ---- Entering a container. ---- */

/* Whether a cgroup's name ends, but for `.scope`, in 64 hexadecimal digits, as every runtime names those of containers. */
OUTLINE int is_container(__u64 address)
{
	struct kernfs_node *node = (void *)address;
	__u32 zero = 0;
	struct draft *draft = map_lookup(&drafts, &zero);
	if (!draft)
		return 0;
	/* Nothing is drafted yet: there is room, which the stack has not. */
	__u8 *name = draft->texts;
	long length = probe_read_kernel_str(name, NAME_LENGTH, READ(node, name)) - 1;
	if (length < ID_LENGTH || length >= NAME_LENGTH)
		return 0;
	__u32 end = length;
	if (end > 6 && end < NAME_LENGTH && name[end - 1] == 'e' && name[end - 6] == '.')
		end -= 6;
	if (end < ID_LENGTH)
		return 0;
	__u32 begin = end - ID_LENGTH;
	for (__u32 at = 0; at < ID_LENGTH; at++) {
		__u32 place = begin + at;
		if (place >= NAME_LENGTH)
			return 0;
		__u8 c = name[place];
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return 0;
	}
	return 1;
}

struct surroundings {
	struct pid_namespace *pid;
	struct mnt_namespace *mount;
	struct net *network;
	struct ipc_namespace *ipc;
	struct uts_namespace *uts;
	__u64 cgroup; /* kernfs id */
	__u32 number; /* in the pid namespace */
	__u32 level;
};

INLINE void look(struct task_struct *task, struct surroundings *at)
{
	struct nsproxy *proxy = GET(task, nsproxy);
	at->pid = pid_namespace_of(task, &at->number, &at->level);
	at->mount = GET(proxy, mnt_ns);
	at->network = GET(proxy, net_ns);
	at->ipc = GET(proxy, ipc_ns);
	at->uts = GET(proxy, uts_ns);
	at->cgroup = GET(GET(whole_cgroup_of(task), kn), id);
}

INLINE __u32 differences(struct surroundings *one, struct surroundings *other)
{
	__u32 found = 0;
	if (one->pid != other->pid)
		found |= IN_PID_NAMESPACE;
	if (one->mount != other->mount)
		found |= IN_MOUNT_NAMESPACE;
	if (one->network != other->network)
		found |= IN_NETWORK_NAMESPACE;
	if (one->ipc != other->ipc)
		found |= IN_IPC_NAMESPACE;
	if (one->uts != other->uts)
		found |= IN_UTS_NAMESPACE;
	if (one->cgroup != other->cgroup)
		found |= IN_CGROUP;
	return found;
}

INLINE __u64 owner_of(__u32 inode)
{
	__u64 *container = map_lookup(&namespaces, &inode);
	return container ? *container : 0;
}

INLINE void name(struct surroundings *at, __u32 *inodes)
{
	inodes[0] = GET(at->mount, ns.inum);
	inodes[1] = READ(at->pid, ns.inum);
	inodes[2] = GET(at->network, ns.inum);
	inodes[3] = GET(at->ipc, ns.inum);
	inodes[4] = GET(at->uts, ns.inum);
}

/* The container that a process of no session has come into, other than its parent. A cgroup in which nobody has begun a program is
 * a new container's, whatever the inodes of its namespaces were before. Containers of a pod share namespaces: so a mount
 * namespace says most, then the cgroup, then the others. */
INLINE __u64 entered(struct task_struct *leader, struct surroundings *at, __u32 by)
{
	__u64 container = 0;
	if (by & IN_CGROUP) {
		struct container *known = map_lookup(&containers, &at->cgroup);
		if (known && known->is_new)
			return at->cgroup;
	}
	if (by & IN_MOUNT_NAMESPACE)
		container = owner_of(GET(at->mount, ns.inum));
	if (!container && (by & IN_CGROUP) && is_container((__u64)cgroup_of(leader)))
		container = at->cgroup;
	if (!container && (by & IN_PID_NAMESPACE))
		container = owner_of(READ(at->pid, ns.inum));
	if (!container && (by & IN_NETWORK_NAMESPACE))
		container = owner_of(GET(at->network, ns.inum));
	if (!container && (by & IN_IPC_NAMESPACE))
		container = owner_of(GET(at->ipc, ns.inum));
	if (!container && (by & IN_UTS_NAMESPACE))
		container = owner_of(GET(at->uts, ns.inum));
	return container;
}

/* Whether a task descends from a container's first process, which is older than the probe as it may be itself. */
INLINE int descends(struct task_struct *task, __u32 first)
{
	for (int generation = 0; generation < GENERATIONS; generation++) {
		task = GET(GET(task, group_leader), real_parent);
		__u32 pid = GET(task, tgid);
		if (pid == first)
			return 1;
		if (pid <= 1)
			return 0;
	}
	return 1;
}

/* The container that a process of no session is in, like its parent: that one has gone in and begun no program there. What a
 * container does itself is in a session, unless it is older than the probe. */
INLINE __u64 found_inside(struct task_struct *leader, struct surroundings *at, __u32 *by)
{
	__u32 own[NAMESPACES];
	__u64 container = 0;
	name(at, own);
	for (int number = 0; number < NAMESPACES; number++)
		if (!container && own[number] != machine[number])
			container = owner_of(own[number]);
	if (!container && map_lookup(&containers, &at->cgroup))
		container = at->cgroup;
	struct container *known = container ? map_lookup(&containers, &container) : 0;
	if (!known || known->is_new)
		return 0;
	if (!known->init && (!known->first || descends(leader, known->first)))
		return 0;
	*by = at->cgroup == container ? IN_CGROUP : 0;
	for (int number = 0; number < NAMESPACES; number++)
		if (owner_of(own[number]) == container)
			*by |= number == 0 ? IN_MOUNT_NAMESPACE : number == 1 ? IN_PID_NAMESPACE : 1 << number;
	return container;
}

/* The other container that a member of a session has gone over into; 0 for none. What it makes for itself is nobody's. */
INLINE __u64 gone_over(struct task_struct *leader, struct surroundings *at, struct session *session, __u32 by)
{
	__u32 now[NAMESPACES];
	name(at, now);
	for (int number = 0; number < NAMESPACES; number++) {
		if (now[number] == session->namespaces[number])
			continue;
		__u64 container = owner_of(now[number]);
		if (container && container != session->container)
			return container;
	}
	if (!(by & IN_CGROUP) || at->cgroup == session->cgroup || !is_container((__u64)cgroup_of(leader)))
		return 0;
	return at->cgroup == session->container ? 0 : at->cgroup;
}

/* A container's first process: the namespaces that it did not take over from who started it are the container's. */
INLINE void brings(struct session *init, const __u32 *taken)
{
	for (int number = 0; number < NAMESPACES; number++) {
		__u32 own = init->namespaces[number];
		if (own != taken[number])
			map_update(&namespaces, &own, &init->container, NOEXIST);
	}
}

INLINE void found_container(struct session *init, struct surroundings *from, __u64 session)
{
	struct container container = { .init = session, .tokens = (__u64)burst * SECOND };
	__u32 taken[NAMESPACES];
	map_update(&containers, &init->container, &container, ANY);
	name(from, taken);
	brings(init, taken);
}

/* A runtime's own program may be begun once more when it is in the container's cgroup already, and still in the machine's
 * namespaces. What was told of it is no more than that somebody comes: who it is, is who is there then. Whether that is so. */
INLINE int settled(struct session *session, struct surroundings *at, __u32 pid)
{
	__u32 taken[NAMESPACES];
	if (!session->arriving || GET(at->mount, ns.inum) == session->namespaces[0])
		return 0;
	session->arriving = 0;
	session->root = pid;
	session->ended = 0;
	for (int number = 0; number < NAMESPACES; number++)
		taken[number] = session->namespaces[number];
	name(at, session->namespaces);
	if (session->kind == INIT)
		brings(session, taken);
	return 1;
}

INLINE __u64 *number(__u32 which)
{
	return map_lookup(&numbers, &which);
}

/* The session of a task; `adopted` says that it was found, not followed: members do not count it. */
INLINE struct session *session_of(struct task_struct *task, __u64 *id, int *adopted)
{
	struct tag *tag = task_storage_get(&tags, task, 0, 0);
	*id = *adopted = 0;
	if (tag && tag->session) {
		*id = tag->session;
		return map_lookup(&sessions, id);
	}
	__u64 *any = number(ADOPTED_PROCESSES);
	if (!any || !*any)
		return 0;
	__u32 pid = READ(task, tgid);
	__u64 *of = map_lookup(&adoptions, &pid);
	if (!of)
		return 0;
	*id = *of;
	*adopted = 1;
	return map_lookup(&sessions, id);
}

/* Makes `task` the first member of a session of its own, and leaves the one that it was a member of. */
INLINE struct session *begin(struct task_struct *task, struct surroundings *at, __u32 by, __u64 container, __u32 kind, __u64 *id)
{
	__u32 zero = 0;
	struct draft *draft = map_lookup(&drafts, &zero);
	struct tag *tag = task_storage_get(&tags, task, 0, CREATE);
	if (!draft || !tag) {
		count(UNTRACKED);
		return 0;
	}
	/* Nothing is drafted yet: there is room, which the stack has not. */
	struct session *session = (void *)draft->texts;
	*session = (struct session){
		.container = container, .begun = ktime_get_boot_ns(), .root = GET(task, tgid), .members = 1, .kind = kind,
		.arriving = !(by & IN_MOUNT_NAMESPACE), .cgroup = at->cgroup,
	};
	name(at, session->namespaces);
	/* Two may begin in the same nanosecond. */
	*id = session->begun;
	for (int tries = 0; tries < 4; tries++) {
		if (map_update(&sessions, id, session, NOEXIST) == 0) {
			tag->session = *id;
			count(SESSIONS);
			return map_lookup(&sessions, id);
		}
		*id += 1;
	}
	count(UNTRACKED);
	*id = 0;
	return 0;
}

/* ---- Telling. ---- */

/* Whether a container may have one more record told. Not exact when several of its processes ask at once. A part of its rate is
 * left to the beginnings and ends of sessions, of which what is inside cannot make many. */
INLINE int within_rate(struct head *head)
{
	__u64 now = head->time;
	struct container *container = map_lookup(&containers, &head->container);
	if (!container)
		return 1;
	__u64 most = (__u64)burst * SECOND;
	__u64 passed = now - container->refilled;
	/* A container that was quiet for long, or has told nothing yet, has all. */
	__u64 tokens = !container->refilled || passed / SECOND * rate >= burst ? most : container->tokens + passed * rate;
	/* While the ring fills up, those who have told much wait, so that others still can. */
	__u64 least = SECOND;
	if (head->kind == FILE_OPENED || head->kind == CONNECTED) {
		/* However many these are, they displace nothing of what processes do. */
		least += most / 2;
		if (ringbuf_query(&records, AVAILABLE_DATA) > ring_bytes / 2)
			least = most + 1;
	} else if (head->kind != END && !(head->flags & ENTRY))
		least += ringbuf_query(&records, AVAILABLE_DATA) > ring_bytes / 2 ? most / 2 : most / 16;
	container->refilled = now;
	if (tokens > most)
		tokens = most;
	if (tokens < least) {
		container->tokens = tokens;
		return 0;
	}
	container->tokens = tokens - SECOND;
	return 1;
}

/* Whether a record of this session is wanted; gives it its number. */
INLINE int wanted(struct session *session, struct head *head)
{
	if (!session) {
		__u64 *next = number(NEXT);
		if (!whole_node || !next)
			return 0;
		head->number = __sync_fetch_and_add(next, 1);
		return 1;
	}
	if (!whole_node && session->kind == INIT && head->kind != END && session->records >= UNDECIDED_RECORDS && !map_lookup(&wishes, &head->session)) {
		add(&session->unwanted);
		return 0;
	}
	head->number = __sync_fetch_and_add(&session->records, 1);
	return 1;
}

/* Whether it was told. */
INLINE int tell(struct draft *draft, struct session *session, __u64 length)
{
	__u64 flags = 0;
	if (session && !within_rate(&draft->head)) {
		add(&session->limited);
		if (draft->head.kind == FILE_OPENED || draft->head.kind == CONNECTED)
			add(&session->limited_accesses);
		count(LIMITED);
		return 0;
	}
	if (length > sizeof(*draft))
		length = sizeof(*draft);
	draft->head.length = length;
	if (wake_at)
		flags = ringbuf_query(&records, AVAILABLE_DATA) >= wake_at ? FORCE_WAKEUP : NO_WAKEUP;
	if (ringbuf_output(&records, draft, length, flags) == 0) {
		count(TOLD);
		return 1;
	}
	if (session)
		add(&session->lost);
	count(LOST);
	return 0;
}

INLINE struct draft *draft(__u16 kind, struct session *session, __u64 id)
{
	__u32 zero = 0;
	struct draft *draft = map_lookup(&drafts, &zero);
	if (!draft)
		return 0;
	draft->head = (struct head){ .kind = kind, .time = ktime_get_boot_ns(), .session = id };
	if (session) {
		draft->head.container = session->container;
		if (session->kind == INIT)
			draft->head.flags = OF_INIT;
	}
	return wanted(session, &draft->head) ? draft : 0;
}

INLINE void describe(struct process *to, struct task_struct *task)
{
	struct task_struct *leader = GET(task, group_leader);
	struct task_struct *parent = GET(GET(leader, real_parent), group_leader);
	struct nsproxy *proxy = GET(task, nsproxy);
	struct signal_struct *signal = GET(task, signal);
	const struct cred *cred = GET(task, cred);
	struct task_struct___audited *audited = (void *)task;
	__u32 level;
	*to = (struct process){};
	to->start = GET(leader, start_boottime);
	to->parent_start = GET(parent, start_boottime);
	to->pid = GET(task, tgid);
	to->thread = GET(task, pid);
	to->parent = GET(parent, tgid);
	pid_namespace_of(parent, &to->inner_parent, &level);
	to->pid_namespace = READ(pid_namespace_of(leader, &to->inner_pid, &to->level), ns.inum);
	/* A process that ends has left its namespaces. */
	if (proxy)
		to->mount_namespace = GET(GET(proxy, mnt_ns), ns.inum);
	to->user = GET(cred, uid).val;
	to->group = GET(cred, gid).val;
	to->effective_user = GET(cred, euid).val;
	to->effective_group = GET(cred, egid).val;
	to->login_user = to->audit_session = -1;
	if (EXISTS(audited, loginuid))
		to->login_user = GET(audited, loginuid).val;
	if (EXISTS(audited, sessionid))
		to->audit_session = GET(audited, sessionid);
	struct pid *group = 0;
	probe_read_kernel(&group, sizeof(group), (const char *)signal + OFFSET(struct signal_struct, pids) + PIDTYPE_SID * sizeof(group));
	struct upid outermost = {};
	probe_read_kernel(&outermost, sizeof(outermost), (const char *)group + OFFSET(struct pid, numbers));
	to->process_session = outermost.nr;
	probe_read_kernel(to->name, sizeof(to->name), &task->comm);
	struct tty_struct *tty = GET(signal, tty);
	if (tty)
		probe_read_kernel_str(to->tty, sizeof(to->tty), &tty->name);
}

struct walk {
	struct dentry *at, *root;
	struct vfsmount *tree, *root_tree;
	struct mount *mount;
	__u32 begin; /* in the draft's texts */
	__u32 length;
	__u32 done;
};

/* One component of a path, from the innermost outwards; called until it returns 1. */
static long step(__u32 number, struct walk *walk)
{
	__u32 zero = 0;
	struct draft *draft = map_lookup(&drafts, &zero);
	if (!draft)
		return 1;
	struct dentry *at = walk->at;
	if (at == walk->root && walk->tree == walk->root_tree) {
		walk->done = 1;
		return 1;
	}
	struct dentry *parent = READ(at, d_parent);
	if (at == READ(walk->tree, mnt_root)) {
		struct mount *outer = READ(walk->mount, mnt_parent);
		if (outer == walk->mount) {
			walk->done = 1;
			return 1;
		}
		walk->at = READ(walk->mount, mnt_mountpoint);
		walk->mount = outer;
		walk->tree = (void *)((char *)outer + OFFSET(struct mount, mnt));
		return 0;
	}
	if (walk->length > PATH_MOST - 256)
		return 1;
	__u32 place = (walk->begin + walk->length) & (TEXTS - 1);
	long length = probe_read_kernel_str(draft->texts + place, 256, READ(at, d_name.name));
	if (length <= 0)
		return 1;
	walk->length += length;
	walk->at = parent;
	/* What is in no folder, such as a file in memory alone. */
	walk->done = at == parent;
	return walk->done;
}

/* Writes the components of a path to the texts at `begin`; how many bytes. */
INLINE __u32 walk_path(struct fs_struct *of, struct vfsmount *tree, struct dentry *at, __u32 begin, int *whole)
{
	struct walk walk = {
		.at = at, .root = READ(of, root.dentry), .tree = tree, .root_tree = READ(of, root.mnt), .begin = begin,
	};
	walk.mount = (void *)((char *)tree - OFFSET(struct mount, mnt));
	loop(MOST_COMPONENTS, step, &walk, 0);
	*whole = walk.done;
	return walk.length;
}

/* Reads bytes of a process's memory to the texts at `begin`; how many, or -1 when they are not there. */
INLINE long copy(struct draft *draft, __u32 begin, unsigned long from, unsigned long to, __u32 most)
{
	__u64 length = to - from;
	__u32 place = begin & (TEXTS - 1);
	if (to < from)
		return -1;
	if (length > most - 1)
		length = most - 1;
	length &= LONGEST - 1;
	if (probe_read_user(draft->texts + place, length, (void *)from))
		return -1;
	return length;
}

#include "recording.h"
#include "opens.h"

INLINE __u64 inode_behind(struct task_struct *task, __u32 descriptor)
{
	struct file *file = file_behind(task, descriptor);
	return file ? READ(READ(file, f_inode), i_ino) : 0;
}

INLINE void entry(struct draft *draft, struct task_struct *task, struct kernfs_node *node, __u32 *used)
{
	struct exec *exec = &draft->exec;
	__u32 begin = *used;
	draft->head.flags |= ENTRY;
	for (__u32 descriptor = 0; descriptor < 3; descriptor++)
		exec->standard[descriptor] = inode_behind(task, descriptor);
	for (int level = 0; level < 3 && node; level++) {
		__u32 place = *used & (TEXTS - 1);
		long length = probe_read_kernel_str(draft->texts + place, CGROUP_MOST / 3, READ(node, name));
		if (length <= 0)
			break;
		*used += length;
		node = around(node);
	}
	exec->cgroup = *used - begin;
}

/* What a container brought with it is nobody's when its first process and all that came of it have ended. */
INLINE void forget_container(struct session *init)
{
	for (int number = 0; number < NAMESPACES; number++)
		if (owner_of(init->namespaces[number]) == init->container)
			map_delete(&namespaces, &init->namespaces[number]);
	map_delete(&containers, &init->container);
}

/* A member has ended, or gone over into another session. */
INLINE void leave(struct session *session, __u64 id, int adopted, __u32 pid)
{
	if (adopted) {
		map_delete(&adoptions, &pid);
		return;
	}
	if (__sync_fetch_and_add(&session->members, -1) != 1)
		return;
	struct draft *end = draft(END, session, id);
	int told = 1;
	if (end) {
		end->process = (struct process){};
		*(struct session *)&end->exec = *session;
		told = tell(end, session, __builtin_offsetof(struct draft, exec) + sizeof(struct session));
	}
	if (session->kind == INIT)
		forget_container(session);
	if (told) {
		map_delete(&sessions, &id);
		map_delete(&wishes, &id);
	}
}

/* The program that the current task has begun. By itself: whatever way led here, the verifier walks through it once. */
OUTLINE int tell_program(__u64 id, __u64 file_name, __u32 by, __u32 is_entry)
{
	struct task_struct *task = current_task();
	struct task_struct *leader = GET(task, group_leader);
	struct session *session = id ? map_lookup(&sessions, &id) : 0;
	int whole;
	struct draft *draft_ = draft(EXEC, session, id);
	if (!draft_)
		return 0;
	struct exec *exec = &draft_->exec;
	describe(&draft_->process, task);
	*exec = (struct exec){};
	exec->entered_by = by;
	if (session)
		exec->session_kind = session->kind;
	struct task_struct *ancestor = leader;
	for (int generation = 0; generation < ANCESTORS; generation++) {
		ancestor = GET(ancestor, real_parent);
		exec->ancestors[generation] = GET(ancestor, tgid);
		if (exec->ancestors[generation] <= 1)
			break;
	}
	struct mm_struct *memory = GET(task, mm);
	struct file *file = GET(memory, exe_file);
	struct inode *inode = GET(file, f_inode);
	exec->inode = GET(inode, i_ino);
	exec->links = GET(inode, i_nlink);
	exec->device = GET(GET(inode, i_sb), s_dev);

	__u32 used = 0;
	struct fs_struct *places = GET(task, fs);
	exec->path = walk_path(places, GET(file, f_path.mnt), GET(file, f_path.dentry), used, &whole);
	if (!whole)
		draft_->head.flags |= PATH_CUT;
	used += exec->path;
	long length = probe_read_kernel_str(draft_->texts + (used & (TEXTS - 1)), NAME_MOST, (void *)file_name);
	if (length > 0) {
		exec->file = length;
		used += length;
	}
	unsigned long first = GET(memory, arg_start), last = GET(memory, arg_end);
	exec->arguments_total = last - first;
	length = copy(draft_, used, first, last, ARGUMENTS_MOST);
	if (length >= 0) {
		exec->arguments = length;
		used += length;
	} else {
		draft_->head.flags |= ARGUMENTS_UNREADABLE;
	}
	exec->directory = walk_path(places, GET(places, pwd.mnt), GET(places, pwd.dentry), used, &whole);
	if (!whole)
		draft_->head.flags |= DIRECTORY_CUT;
	used += exec->directory;
	if (is_entry)
		entry(draft_, task, cgroup_of(leader), &used);
	if (is_entry || with_environment) {
		first = GET(memory, env_start);
		last = GET(memory, env_end);
		exec->environment_total = last - first;
		length = copy(draft_, used, first, last, ENVIRONMENT_MOST);
		if (length >= 0) {
			exec->environment = length;
			used += length;
		} else {
			draft_->head.flags |= ENVIRONMENT_UNREADABLE;
		}
	}
	tell(draft_, session, __builtin_offsetof(struct draft, exec) + sizeof(struct exec) + (used & (2 * TEXTS - 1)));
	return 0;
}

INLINE void tell_exec(__u64 *arguments)
{
	struct task_struct *task = (void *)arguments[0];
	struct linux_binprm *program = (void *)arguments[2];
	struct task_struct *leader = GET(task, group_leader);
	struct surroundings at, from;
	__u64 id;
	__u32 by;
	int is_entry = 0, adopted;
	struct session *session = session_of(task, &id, &adopted);
	look(leader, &at);
	look(GET(leader, real_parent), &from);
	by = differences(&at, &from);
	__u64 container = session ? gone_over(leader, &at, session, by) : by ? entered(leader, &at, by) : 0;
	if (!session && !container)
		container = found_inside(leader, &at, &by);
	if (container) {
		struct container *known = map_lookup(&containers, &container);
		/* One that is older than the probe may have been found when it was being made. */
		int is_first = known && known->is_new;
		if (!known || !(known->is_new || known->init))
			is_first = at.number == 1 && !owner_of(READ(at.pid, ns.inum)) && !owner_of(GET(at.mount, ns.inum));
		struct session *left = session;
		__u64 left_id = id;
		session = begin(task, &at, by, container, is_first ? INIT : ENTERED, &id);
		if (session && is_first)
			found_container(session, &from, id);
		if (session && left)
			leave(left, left_id, adopted, GET(task, tgid));
		is_entry = session != 0;
	} else if (session && settled(session, &at, GET(task, tgid))) {
		by |= IN_CGROUP;
		is_entry = 1;
	}
	if (session)
		add(&session->execs);
	if (with_recording)
		record_exec(id, is_entry, by);
	tell_program(id, (__u64)READ(program, filename), by, is_entry);
}

SEC("tp_btf/sched_process_exec")
int on_exec(__u64 *arguments)
{
	__u64 since = begin_run(EXECS);
	tell_exec(arguments);
	end_run(EXEC_SAMPLED, since);
	return 0;
}

INLINE void tell_fork(__u64 *arguments)
{
	struct task_struct *parent = (void *)arguments[0], *child = (void *)arguments[1];
	__u64 id;
	int adopted;
	struct session *session = session_of(parent, &id, &adopted);
	if (!session) {
		if (with_recording)
			foresee_by_fork(parent, child);
		return;
	}
	struct tag *tag = task_storage_get(&tags, child, 0, CREATE);
	if (!tag) {
		add(&session->untracked);
		count(UNTRACKED);
		return;
	}
	tag->session = id;
	if (GET(child, pid) != GET(child, tgid))
		return;
	__sync_fetch_and_add(&session->members, 1);
	add(&session->forks);
	struct draft *draft_ = draft(FORK, session, id);
	if (!draft_)
		return;
	describe(&draft_->process, child);
	tell(draft_, session, __builtin_offsetof(struct draft, exec));
}

SEC("tp_btf/sched_process_fork")
int on_fork(__u64 *arguments)
{
	__u64 since = begin_run(FORKS);
	tell_fork(arguments);
	end_run(FORK_SAMPLED, since);
	return 0;
}

INLINE void tell_exit(__u64 *arguments)
{
	struct task_struct *task = (void *)arguments[0];
	struct signal_struct *signal = GET(task, signal);
	__u64 id;
	/* Its last thread. What the tracepoint says besides differs by kernel. */
	if (GET(signal, live).counter != 0)
		return;
	count(EXITS);
	int adopted;
	struct session *session = session_of(task, &id, &adopted);
	int grouped = GET(signal, flags) & SIGNAL_GROUP_EXIT;
	__s32 status = grouped ? GET(signal, group_exit_code) : GET(GET(task, group_leader), exit_code);
	__u32 pid = GET(task, tgid);
	if (session) {
		add(&session->exits);
		if (pid == session->root && !session->ended) {
			session->ended = ktime_get_boot_ns();
			session->status = status;
		}
	}
	struct draft *draft_ = draft(EXIT, session, id);
	if (draft_) {
		describe(&draft_->process, task);
		draft_->exit = (struct exit){
			.status = status, .cpu = GET(signal, sum_sched_runtime) + GET(task, se.sum_exec_runtime),
		};
		tell(draft_, session, __builtin_offsetof(struct draft, exit) + sizeof(struct exit));
	}
	if (session)
		leave(session, id, adopted, pid);
}

SEC("tp_btf/sched_process_exit")
int on_exit(__u64 *arguments)
{
	__u64 since = begin_run(EXIT_RUNS);
	tell_exit(arguments);
	end_run(EXIT_SAMPLED, since);
	return 0;
}

/* ---- Containers come and go. ---- */

/* Whether a cgroup is of the hierarchy that tells containers. All processes are in the same one. */
INLINE int tells_containers(struct cgroup *cgroup)
{
	return READ(cgroup, root) == READ(whole_cgroup_of(current_task()), root);
}

SEC("tp_btf/cgroup_mkdir")
int on_mkdir(__u64 *arguments)
{
	struct cgroup *made = (void *)arguments[0];
	struct kernfs_node *node = READ(made, kn);
	struct container container = { .is_new = 1, .tokens = (__u64)burst * SECOND };
	__u64 id = READ(node, id);
	if (tells_containers(made) && is_container((__u64)node))
		map_update(&containers, &id, &container, NOEXIST);
	return 0;
}

/* Of one that is older than the probe, or had no process, nobody else tells the end. Inodes of its namespaces are given out again. */
SEC("tp_btf/cgroup_rmdir")
int on_rmdir(__u64 *arguments)
{
	struct cgroup *gone = (void *)arguments[0];
	__u64 id = READ(READ(gone, kn), id);
	struct container *container = map_lookup(&containers, &id);
	if (!container || container->init || !tells_containers(gone))
		return 0;
	for (int number = 0; number < NAMESPACES; number++) {
		__u32 own = container->namespaces[number];
		if (own && owner_of(own) == id)
			map_delete(&namespaces, &own);
	}
	map_delete(&containers, &id);
	return 0;
}
