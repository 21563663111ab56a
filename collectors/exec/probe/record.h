/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * What the probe tells user space: records in a ring buffer, in the machine's own byte order. src/record.rs reads them, and
 * a test there holds the sizes. Times are nanoseconds of CLOCK_BOOTTIME. Numbers of processes, users and groups are those of
 * the machine's first namespaces, but for what is called inner.
 */
#pragma once

/* Bytes of each text at most. What was longer says so by its total, or by a flag. */
#define PATH_MOST 1024
#define NAME_MOST 512
#define ARGUMENTS_MOST 8192
#define ENVIRONMENT_MOST 8192
#define CGROUP_MOST 512
#define ANCESTORS 8
#define NAMESPACES 5 /* mount, pid, network, IPC, UTS: those that a container owns alone come first */

enum kind {
	EXEC = 1, /* a program was begun */
	FORK = 2, /* a process was made */
	EXIT = 3, /* a process ended */
	END = 4,  /* a session's last member ended */
	FORESEEN = 5, /* somebody may come into a container soon; a head alone, in the ring `foreseen` */
	PIECE = 6, /* something was typed or shown; in the ring `pieces` */
	FILE_OPENED = 7, /* a file was opened to write */
	CONNECTED = 8,   /* a connection is made, or something was sent to an address */
};

/* Of a record. */
enum flag {
	ENTRY = 1,                 /* with this exec a session began, or it is the one with which who came has arrived */
	ARGUMENTS_UNREADABLE = 2,  /* their memory was not there */
	ENVIRONMENT_UNREADABLE = 4,
	PATH_CUT = 8,              /* the program's path has more components, or longer ones, than fit */
	DIRECTORY_CUT = 16,        /* so has the working directory's */
	OF_INIT = 32,              /* its session is a container's first process and what descends from that */
};

/* What a session is. */
enum session_kind {
	INIT = 1,    /* a container's first process and its descendants */
	ENTERED = 2, /* a process that came into a container from outside, and its descendants */
	ADOPTED = 3, /* the same, begun before the probe was there */
};

/* What user space wishes of a session, in the map `wishes`. Without a wish all is told, but of an INIT the beginning only. */
enum wish {
	ALL = 1,
};

struct head {
	__u32 length; /* of the whole record */
	__u16 kind;
	__u16 flags;
	__u64 time;
	__u64 session; /* 0: none */
	__u64 number;  /* of this record in its session, from 0; without a session, on the machine */
	__u64 container; /* the cgroup's kernfs id; 0: none */
};

/* A process. A process is named for ever by its pid and start. */
struct process {
	__u64 start;
	__u64 parent_start;
	__u32 pid;
	__u32 thread; /* which of its threads did it */
	__u32 parent;
	__u32 inner_pid; /* as its innermost pid namespace numbers it */
	__u32 inner_parent;
	__u32 process_session; /* setsid's */
	__u32 user, group, effective_user, effective_group;
	__u32 login_user;    /* of the audit subsystem; 4294967295: none */
	__u32 audit_session;
	__u32 pid_namespace, mount_namespace; /* inodes of nsfs */
	__u32 level; /* how many pid namespaces lie around its own */
	__u32 unused;
	char name[16];
	char tty[16]; /* empty: none */
};

/* Behind an exec's head and process; its texts follow in the order of their lengths. */
struct exec {
	__u64 inode;
	__u32 device;
	__u32 links;        /* 0: the file is deleted, or never had a name */
	__u32 entered_by;   /* enum difference */
	__u32 session_kind;
	__u32 ancestors[ANCESTORS]; /* pids, the parent first */
	__u64 standard[3];  /* inodes behind descriptors 0 to 2; of an entry */
	__u32 arguments_total;
	__u32 environment_total;
	__u16 path;      /* the program's path: components from the innermost to the outermost, each with a NUL */
	__u16 file;      /* what exec was called with */
	__u16 arguments; /* with a NUL behind each */
	__u16 directory; /* the working directory, as path */
	__u16 cgroup;    /* names of the cgroup and the two around it, each with a NUL; of an entry */
	__u16 environment;
	__u32 unused;
};

struct exit {
	__s32 status; /* as wait(2) has it */
	__u32 unused;
	__u64 cpu;    /* nanoseconds that its threads ran */
};

/* Behind the head and process of a FILE_OPENED; its path follows where the texts of an exec are. */
struct opened {
	__u64 inode;
	__u32 device;
	__u32 links; /* 0: it has no name */
	__u32 flags; /* of open(2), as the kernel has kept them */
	__u32 mode;  /* the kernel's own: FILE_CREATED and its like */
	__u32 asked; /* the flags that it was opened with */
	__u16 path;
	__u16 kind;  /* S_IFREG or S_IFBLK */
};

/* Of a connection. */
enum how {
	AS_GIVEN = 1,      /* the address is what the program had in its memory */
	SENT = 2,          /* a datagram to an address, by a socket that need not be connected */
	IN_COMPONENTS = 4, /* the name is a path, as an exec's */
	BEGUN = 8,         /* how it ends is not known yet */
};

/* Behind the head and process of a CONNECTED; a local socket's name follows where the texts of an exec are. */
struct connected {
	__u8 address[16]; /* of IPv4 the first four */
	__s32 result;     /* 0, or an error below 0 */
	__u16 family;
	__u16 port;       /* as on the wire */
	__u16 protocol;
	__u16 type;       /* of the socket */
	__u16 name;
	__u16 how;
};

/* A session, as the probe counts it. Behind the head of its END; and in the map `sessions`, until its END was told. */
struct session {
	__u64 container;
	__u64 begun;
	__u64 records; /* numbers that were given out */
	__u64 lost;    /* of them, not told: the ring was full */
	__u64 limited; /* of them, not told: the container was over its rate */
	__u64 unwanted; /* records that got no number: nobody had asked for them */
	__u64 untracked; /* processes that could not be counted in: no memory */
	__u64 execs, forks, exits; /* of its members, told or not */
	__u64 files, connections;  /* the same, where these are told */
	__u64 limited_accesses;    /* of those that are limited: files and connections */
	__u64 cgroup;  /* kernfs id, of its first member when it came in */
	__u64 ended;   /* when its first process did; 0: it lives */
	__u32 root;    /* pid of that */
	__s32 status;  /* how it ended, as wait(2) has it */
	__u32 members; /* living processes; of an ADOPTED, HOLD more than were made since */
	__u32 kind;
	__u32 namespaces[NAMESPACES]; /* inodes of those of its first member, when it came in */
	__u32 arriving; /* it came in by the cgroup alone, and has not gone on into the container's namespaces */
};

/* User space holds an ADOPTED session open: it knows best when the processes that it found have ended. */
#define HOLD (1 << 20)

/* A container as the probe knows it, in the map `containers`, by the kernfs id of its cgroup. */
struct container {
	__u64 init;     /* the session of its first process; 0: there was none yet, or it is older than the probe */
	__u64 refilled; /* when */
	__u64 tokens;   /* records that it may still have told, times 1e9 */
	__u32 is_new;   /* its cgroup was made, and nobody has begun a program in it */
	__u32 first;    /* of one that is older than the probe: pid of its first process; 0: who loses his parent is not that one's child */
	__u32 namespaces[NAMESPACES]; /* of one that is older than the probe: inodes of those that it brought with it, or 0 */
	__u32 unused;
};

/* Places in the map `numbers`. */
enum number {
	NEXT,    /* of the next record that is of no session */
	ADOPTED_PROCESSES, /* 0: the map `adoptions` is empty */
	FORETOLD, /* when user space was last told that a session may begin */
	FORETOLD_OF, /* and in which container */
	NUMBERS,
};

/* Which of a process's surroundings are not its parent's. */
enum difference {
	IN_PID_NAMESPACE = 1,
	IN_MOUNT_NAMESPACE = 2,
	IN_NETWORK_NAMESPACE = 4,
	IN_IPC_NAMESPACE = 8,
	IN_UTS_NAMESPACE = 16,
	IN_CGROUP = 32,
};

/* What the probe counts on each CPU, in the map `counts`. */
enum count {
	EXECS,
	FORKS,
	EXITS,
	SESSIONS,
	TOLD,
	LOST,      /* records that did not fit the ring */
	LIMITED,   /* records of containers over their rate */
	UNTRACKED, /* tasks and sessions that could not be remembered */
	EXIT_RUNS, /* of the hook; those of exec and fork are EXECS and FORKS */
	OPEN_RUNS,
	CONNECT_RUNS,
	EXEC_SAMPLED, /* runs that were timed, and behind each for how many nanoseconds */
	EXEC_TIME,
	FORK_SAMPLED,
	FORK_TIME,
	EXIT_SAMPLED,
	EXIT_TIME,
	OPEN_SAMPLED,
	OPEN_TIME,
	CONNECT_SAMPLED,
	CONNECT_TIME,
	COUNTS,
};
