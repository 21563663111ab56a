/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The few fields of the kernel's structures that the probe reads, the helpers that it calls, and how it does either. Where a
 * field lies is found out when the probe is loaded, from the running kernel's own types (CO-RE): order and size here mean
 * nothing, names and nesting do. Three underscores and what follows are no part of a name.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
/* Verified by itself, whoever calls it: takes numbers only. */
#define OUTLINE __attribute__((noinline))
#define RELOCATED __attribute__((preserve_access_index))
#define BARRIER(value) asm volatile("" : "+r"(value))

/* A map's type and size, as its BTF says them. */
#define NUMBER(name, value) int(*name)[value]
#define TYPE(name, type) type *name

enum { MAP_HASH = 1, MAP_ARRAY = 2, MAP_PERCPU_ARRAY = 6, MAP_RINGBUF = 27, MAP_TASK_STORAGE = 29 };
enum { NO_PREALLOC = 1, CREATE = 1, ANY = 0, NOEXIST = 1, NO_WAKEUP = 1, FORCE_WAKEUP = 2, AVAILABLE_DATA = 0 };

#define PIDTYPE_SID 3
#define SIGNAL_GROUP_EXIT 4

struct ns_common { unsigned int inum; } RELOCATED;
struct pid_namespace { struct ns_common ns; } RELOCATED;
struct mnt_namespace { struct ns_common ns; } RELOCATED;
struct net { struct ns_common ns; } RELOCATED;
struct ipc_namespace { struct ns_common ns; } RELOCATED;
struct uts_namespace { struct ns_common ns; } RELOCATED;
struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
} RELOCATED;
struct upid { int nr; struct pid_namespace *ns; } RELOCATED;
struct pid { unsigned int level; struct upid numbers[1]; } RELOCATED;
struct qstr { const unsigned char *name; } RELOCATED;
struct super_block { unsigned int s_dev; } RELOCATED;
struct inode { unsigned long i_ino; unsigned int i_nlink; struct super_block *i_sb; } RELOCATED;
struct dentry { struct dentry *d_parent; struct qstr d_name; struct inode *d_inode; } RELOCATED;
struct vfsmount { struct dentry *mnt_root; } RELOCATED;
struct mount { struct mount *mnt_parent; struct dentry *mnt_mountpoint; struct vfsmount mnt; } RELOCATED;
struct path { struct vfsmount *mnt; struct dentry *dentry; } RELOCATED;
struct fs_struct { struct path root, pwd; } RELOCATED;
struct file { struct path f_path; struct inode *f_inode; } RELOCATED;
struct fdtable { unsigned int max_fds; struct file **fd; } RELOCATED;
struct files_struct { struct fdtable *fdt; } RELOCATED;
struct mm_struct { unsigned long arg_start, arg_end, env_start, env_end; struct file *exe_file; } RELOCATED;
struct linux_binprm { const char *filename; } RELOCATED;
typedef struct { unsigned int val; } kuid_t;
typedef struct { unsigned int val; } kgid_t;
struct cred { kuid_t uid, euid; kgid_t gid, egid; } RELOCATED;
struct tty_struct { char name[64]; } RELOCATED;
typedef struct { int counter; } atomic_t;
struct signal_struct {
	atomic_t live;
	struct pid *pids[4];
	struct tty_struct *tty;
	unsigned int flags;
	int group_exit_code;
	unsigned long long sum_sched_runtime;
} RELOCATED;
struct sched_entity { unsigned long long sum_exec_runtime; } RELOCATED;
/* Until 6.14, and since. */
struct kernfs_node___parent { struct kernfs_node *parent; } RELOCATED;
struct kernfs_node___hidden { struct kernfs_node *__parent; } RELOCATED;
struct kernfs_node { const char *name; __u64 id; } RELOCATED;
struct cgroup_root { int hierarchy_id; } RELOCATED;
struct cgroup { struct kernfs_node *kn; struct cgroup_root *root; } RELOCATED;
struct cgroup_subsys_state { struct cgroup *cgroup; } RELOCATED;
enum cgroup_subsys_id { pids_cgrp_id };
struct css_set { struct cgroup_subsys_state *subsys[1]; struct cgroup *dfl_cgrp; } RELOCATED;
struct task_struct {
	int pid, tgid;
	struct task_struct *real_parent, *group_leader;
	struct pid *thread_pid;
	__u64 start_boottime;
	struct nsproxy *nsproxy;
	const struct cred *cred;
	struct css_set *cgroups;
	struct signal_struct *signal;
	struct fs_struct *fs;
	struct files_struct *files;
	struct mm_struct *mm;
	struct sched_entity se;
	int exit_code;
	char comm[16];
} RELOCATED;
/* Where the kernel has the audit subsystem. */
struct task_struct___audited { kuid_t loginuid; unsigned int sessionid; } RELOCATED;

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*map_delete)(void *map, const void *key) = (void *)3;
static __u64 (*ktime_get_ns)(void) = (void *)5;
static __u64 (*get_smp_processor_id)(void) = (void *)8;
static long (*probe_read_user)(void *to, __u32 size, const void *from) = (void *)112;
static long (*probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static long (*probe_read_kernel_str)(void *to, __u32 size, const void *from) = (void *)115;
static __u64 (*ktime_get_boot_ns)(void) = (void *)125;
static long (*ringbuf_output)(void *ring, void *data, __u64 size, __u64 flags) = (void *)130;
static __u64 (*ringbuf_query)(void *ring, __u64 flags) = (void *)134;
static void *(*task_storage_get)(void *map, struct task_struct *task, void *value, __u64 flags) = (void *)156;
static struct task_struct *(*current_task)(void) = (void *)158;
static long (*loop)(__u32 times, void *body, void *context, __u64 flags) = (void *)181;

/* Reads a field of the kernel's by a pointer that the kernel gave as such, or that was read by one: `GET(task, pid)`. The kernel
 * sees to it that a pointer that leads nowhere gives 0. It costs as much as in the kernel itself, a twentieth of READ. */
#define GET(pointer, field) ((pointer)->field)

/* The same by a pointer that was made by arithmetic, or kept somewhere: 0 where it cannot be read. */
#define READ(pointer, field)                                              \
	({                                                                \
		__typeof__((pointer)->field) value_;                      \
		probe_read_kernel((void *)&value_, sizeof(value_), &(pointer)->field); \
		value_;                                                   \
	})
#define EXISTS(pointer, field) __builtin_preserve_field_info((pointer)->field, 2)
#define OFFSET(type, field) __builtin_preserve_field_info(((type *)0)->field, 0)
