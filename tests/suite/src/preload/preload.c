/* Put before the C library of one process by LD_PRELOAD: lets that process see another clock, and makes single calls
 * of single threads fail or hang. The machine and other processes are not touched, and the program under test has no
 * seam for it.
 *
 * What is to happen stands in a file of eight-byte integers that the variable PRELOAD_CONTROL names; it is mapped, so a
 * change is felt at once. Where it cannot be mapped nothing is changed.
 *
 * The clock is CLOCK_REALTIME with everything that is measured by it, a wait until a moment too: when the clock is set
 * back during a wait the wait becomes longer, as the kernel has it. The times of files are those that this clock showed
 * when they were written. Monotonic clocks go on as they are.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

/* The same order, and the same number, as in mod.rs. */
#define STEPS 4096

struct control {
    _Atomic int64_t failing_clocks;    /* so many readings of the wall clock fail, by threads of the name below */
    _Atomic int64_t hanging;           /* 1: the next read at a position, by such a thread, hangs; 2: it does */
    char thread[16];
    _Atomic int64_t failing_reads;     /* so many reads at a position, by such threads, fail */
    _Atomic int64_t error;             /* with this error */
    _Atomic int64_t count;             /* how often the clock was set */
    struct {
        int64_t since; /* the machine's time, in nanoseconds since 1970 */
        int64_t ahead; /* added to it from then on */
    } steps[STEPS];
};

static const int64_t SECOND = 1000000000;
/* The longest a wait goes without looking at the clock again. */
static const int64_t SLICE = 50000000;

static struct control nothing;
static struct control *control = &nothing;
static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_cnd_timedwait)(cnd_t *, mtx_t *, const struct timespec *);
static int (*real_statx)(int, const char *, int, unsigned int, struct statx *);
static ssize_t (*real_pread)(int, void *, size_t, off_t);
static ssize_t (*real_preadv)(int, const struct iovec *, int, off_t);

__attribute__((constructor)) static void begin(void) {
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    real_cnd_timedwait = dlsym(RTLD_NEXT, "cnd_timedwait");
    real_statx = dlsym(RTLD_NEXT, "statx");
    real_pread = dlsym(RTLD_NEXT, "pread");
    real_preadv = dlsym(RTLD_NEXT, "preadv");
    const char *path = getenv("PRELOAD_CONTROL");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) control = mapped;
}

static int is_meant(void) {
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    return strncmp(name, control->thread, sizeof name) == 0;
}

/* Takes one of those that are to fail. */
static int takes_failure(_Atomic int64_t *failing) {
    int64_t left = *failing;
    while (left > 0)
        if (__atomic_compare_exchange_n((int64_t *)failing, &left, left - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return 1;
    return 0;
}

static int read_clock(clockid_t clock, struct timespec *time) {
    /* Other constructors may ask before ours has run. */
    return real_clock_gettime ? real_clock_gettime(clock, time) : (int)syscall(SYS_clock_gettime, clock, time);
}

static int64_t nanoseconds(const struct timespec *time) { return time->tv_sec * SECOND + time->tv_nsec; }

/* How far ahead the clock was at a moment of the machine's. */
static int64_t ahead_at(int64_t when) {
    for (int64_t step = control->count; step > 0; step--)
        if (control->steps[step - 1].since <= when) return control->steps[step - 1].ahead;
    return 0;
}

static int64_t ahead(void) {
    int64_t count = control->count;
    return count > 0 ? control->steps[count - 1].ahead : 0;
}

static struct timespec moment(int64_t nanoseconds) {
    struct timespec time = {nanoseconds / SECOND, nanoseconds % SECOND};
    return time;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    /* Not the monotonic one: locks and channels read that in the midst of their own work, and no panic comes there. */
    if (clock == CLOCK_REALTIME && control->failing_clocks > 0 && is_meant() && takes_failure(&control->failing_clocks)) {
        errno = EINVAL;
        return -1;
    }
    int result = read_clock(clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        *time = moment(nanoseconds(time) + ahead());
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now = {0, 0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *time, int base) {
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, time) == 0 ? base : 0;
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    for (;;) {
        struct timespec now;
        read_clock(CLOCK_REALTIME, &now);
        int64_t left = nanoseconds(until) - (nanoseconds(&now) + ahead());
        struct timespec end = moment(nanoseconds(&now) + (left < SLICE ? left : SLICE));
        int result = real_cnd_timedwait(condition, mutex, &end);
        if (result != thrd_timedout || left <= SLICE) return result;
    }
}

static void shift(struct statx_timestamp *time) {
    int64_t real = time->tv_sec * SECOND + time->tv_nsec;
    struct timespec seen = moment(real + ahead_at(real));
    time->tv_sec = seen.tv_sec;
    time->tv_nsec = seen.tv_nsec;
}

/* All that Rust's standard library asks. The time of birth tells files apart and must not change: it is left alone. */
int statx(int directory, const char *restrict path, int flags, unsigned int mask, struct statx *restrict found) {
    int result = real_statx(directory, path, flags, mask, found);
    if (result == 0 && control->count > 0) {
        shift(&found->stx_atime);
        shift(&found->stx_ctime);
        shift(&found->stx_mtime);
    }
    return result;
}

static void hang_if_told(void) {
    int64_t told = 1;
    if (control->hanging != told || !is_meant()) return;
    if (!__atomic_compare_exchange_n((int64_t *)&control->hanging, &told, 2, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return;
    while (control->hanging == 2) usleep(20000);
}

static int fails_if_told(void) {
    if (control->failing_reads <= 0 || !is_meant() || !takes_failure(&control->failing_reads)) return 0;
    errno = (int)control->error;
    return 1;
}

ssize_t pread(int file, void *buffer, size_t length, off_t at) {
    hang_if_told();
    if (fails_if_told()) return -1;
    return real_pread(file, buffer, length, at);
}

ssize_t pread64(int file, void *buffer, size_t length, off_t at) { return pread(file, buffer, length, at); }

ssize_t preadv(int file, const struct iovec *vectors, int count, off_t at) {
    hang_if_told();
    return real_preadv(file, vectors, count, at);
}

ssize_t preadv64(int file, const struct iovec *vectors, int count, off_t at) {
    return preadv(file, vectors, count, at);
}
