/* SPDX-License-Identifier: Apache-2.0
 *
 * Does in a container what a shell cannot: `doer WHAT`.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *done[] = {"doer", "done", 0};

static void fail(const char *what)
{
	perror(what);
	exit(99);
}

static void copy_self(int to)
{
	int from = open("/proc/self/exe", O_RDONLY);
	struct stat stat;
	if (from < 0 || fstat(from, &stat) || sendfile(to, from, 0, stat.st_size) != stat.st_size)
		fail("copy");
	close(from);
}

static void pause_ms(long ms)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&time, 0);
}

/* A program that has no file. */
static void memory(void)
{
	int file = memfd_create("nowhere", MFD_CLOEXEC);
	copy_self(file);
	fexecve(file, done, environ);
	fail("fexecve");
}

/* A program whose file is gone. */
static void gone(void)
{
	int file = open("/tmp/gone", O_CREAT | O_RDWR | O_TRUNC, 0755);
	copy_self(file);
	close(file);
	file = open("/tmp/gone", O_RDONLY | O_CLOEXEC);
	unlink("/tmp/gone");
	syscall(SYS_execveat, file, "", done, environ, AT_EMPTY_PATH);
	fail("execveat");
}

/* A process that claims to be another. */
static void false_name(void)
{
	char *arguments[] = {"innocent", "done", 0};
	execv("/proc/self/exe", arguments);
	fail("execv");
}

/* Two processes with one number, one after the other. */
static void twins(void)
{
	for (int number = 0; number < 2; number++) {
		pid_t pid = 31337;
		struct clone_args how = {.exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&pid, .set_tid_size = 1};
		long child = syscall(SYS_clone3, &how, sizeof(how));
		if (child < 0)
			fail("clone3");
		if (child == 0) {
			execv("/proc/self/exe", done);
			_exit(98);
		}
		waitpid(child, 0, 0);
	}
}

/* A process that nobody waits for, in a process session of its own. */
static void daemon_of_two(void)
{
	if (fork())
		_exit(0);
	setsid();
	if (fork())
		_exit(0);
	pause_ms(700);
	execv("/proc/self/exe", done);
	_exit(98);
}

static void *in_thread(void *unused)
{
	execv("/proc/self/exe", done);
	fail("execv");
	return unused;
}

/* Another thread than the first begins a program. */
static void thread(void)
{
	pthread_t thread;
	pthread_create(&thread, 0, in_thread, 0);
	pthread_join(thread, 0);
}

static void forks(int count)
{
	for (int number = 0; number < count; number++)
		if (fork() == 0)
			_exit(number);
	while (wait(0) > 0)
		;
}

/* As many processes as there may be, each of which makes others; for two seconds. */
static void bomb(void)
{
	time_t end = time(0) + 2;
	while (time(0) < end) {
		if (fork() == 0 && fork() > 0)
			_exit(0);
		while (waitpid(-1, 0, WNOHANG) > 0)
			;
	}
	_exit(0);
}

/* Goes into namespaces of a process, begins no program there, and has a child do that. */
static void into(const char *pid, char **names, const char *script)
{
	int spaces[8], count = 0, status;
	char path[64];
	for (; names[count]; count++) {
		snprintf(path, sizeof(path), "/proc/%s/ns/%s", pid, names[count]);
		spaces[count] = open(path, O_RDONLY);
	}
	while (count-- > 0)
		if (setns(spaces[count], 0))
			fail("setns");
	if (fork() == 0) {
		execl("/bin/sh", "sh", "-c", script, NULL);
		fail("sh");
	}
	wait(&status);
	_exit(WEXITSTATUS(status));
}

int main(int count, char **arguments)
{
	const char *what = count > 1 ? arguments[1] : "done";
	if (!strcmp(what, "memory"))
		memory();
	if (!strcmp(what, "gone"))
		gone();
	if (!strcmp(what, "false-name"))
		false_name();
	if (!strcmp(what, "twins"))
		twins();
	if (!strcmp(what, "daemon"))
		daemon_of_two();
	if (!strcmp(what, "thread"))
		thread();
	if (!strcmp(what, "forks"))
		forks(5);
	if (!strcmp(what, "bomb"))
		bomb();
	if (!strcmp(what, "into") && count > 4)
		into(arguments[2], arguments + 4, arguments[3]);
	return 0;
}
