/* The first process of a pod: holds its namespaces, collects the orphans that come to it, and ends when told to. */
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>

int main(void)
{
	sigset_t awaited;
	int arrived;

	sigemptyset(&awaited);
	sigaddset(&awaited, SIGCHLD);
	sigaddset(&awaited, SIGINT);
	sigaddset(&awaited, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &awaited, NULL) != 0)
		return 1;
	while (sigwait(&awaited, &arrived) == 0) {
		if (arrived != SIGCHLD)
			return 0;
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	return 1;
}
