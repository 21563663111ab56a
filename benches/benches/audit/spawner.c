/* SPDX-License-Identifier: Apache-2.0
 *
 * `spawner PROCS exec COUNT PROGRAM [PACE]`, `spawner PROCS fork COUNT`, `spawner PROCS read COUNT`, `spawner PROCS write COUNT`, `spawner PROCS
 * wait`: nanoseconds that one takes, on standard output. What is read is one byte of the standard input, what is written one of the
 * standard error. PROCS
 * is the cgroup.procs of a cgroup to go into first, or `-`; it is gone into by a program of its own, as a runtime does it. PACE is how
 * many nanoseconds lie between one beginning and the next, where they are not to follow at once.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv)
{
	if (strcmp(argv[1], "-")) {
		int procs = open(argv[1], O_WRONLY | O_CLOEXEC);
		if (procs < 0 || write(procs, "0", 1) != 1) {
			perror(argv[1]);
			return 1;
		}
		argv[1] = "-";
		execv("/proc/self/exe", argv);
		return 1;
	}
	/* The first one in a container is the container's own. */
	if (!strcmp(argv[2], "wait")) {
		pause();
		return 0;
	}
	int reads = !strcmp(argv[2], "read");
	if (reads || !strcmp(argv[2], "write")) {
		int bytes = atoi(argv[3]);
		char byte = 'x';
		long long begin = now();
		for (int number = 0; number < bytes; number++)
			if ((reads ? read(0, &byte, 1) : write(2, &byte, 1)) != 1)
				return 1;
		printf("%lld\n", (now() - begin) / bytes);
		return 0;
	}
	int count = atoi(argv[3]), forks = !strcmp(argv[2], "fork");
	char *program[] = {argv[4], 0};
	long long pace = argc > 5 ? atoll(argv[5]) : 0;
	long long begin = now();
	for (int number = 0; number < count; number++) {
		pid_t child = forks ? fork() : vfork();
		if (child == 0) {
			if (!forks)
				execv(program[0], program);
			_exit(0);
		}
		waitpid(child, 0, 0);
		long long next = begin + pace * (number + 1);
		struct timespec until = {next / 1000000000, next % 1000000000};
		if (pace)
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, 0);
	}
	printf("%lld\n", (now() - begin) / count);
	return 0;
}
