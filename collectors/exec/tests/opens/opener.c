/* Opens files and makes connections in the ways that there are. Each case by its name. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static int is(int result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(99);
	}
	return result;
}

static void files(void)
{
	struct open_how how = {.flags = O_WRONLY | O_CREAT, .mode = 0644};
	close(is(creat("/tmp/created", 0644), "creat"));
	close(is(open("/tmp/created", O_WRONLY | O_APPEND), "append"));
	close(is(open("/tmp/created", O_RDWR), "both"));
	/* It empties the file without ever being able to write. */
	close(is(open("/tmp/created", O_RDONLY | O_TRUNC), "truncate"));
	close(is(syscall(SYS_openat2, AT_FDCWD, "/tmp/by openat2\n\033[2J", &how, sizeof(how)), "openat2"));
	is(mkdirat(AT_FDCWD, "/tmp/real", 0755), "mkdir");
	is(symlink("/tmp/real", "/tmp/seeming"), "symlink");
	close(is(open("/tmp/seeming/../seeming/file", O_WRONLY | O_CREAT, 0600), "through a link"));
	close(is(open("/tmp", O_TMPFILE | O_RDWR, 0600), "without a name"));
	/* None of these is one. */
	close(is(open("/tmp/created", O_RDONLY), "read"));
	close(is(open("/dev/null", O_WRONLY), "null"));
	close(is(memfd_create("memory", 0), "memory"));
	close(is(open("/tmp/created", O_PATH | O_TRUNC), "path"));
	open("/proc/version", O_WRONLY | O_CREAT | O_EXCL);
	open("/nowhere/at/all", O_WRONLY | O_CREAT, 0600);
}

static void flood(void)
{
	for (int times = 0; times < 30000; times++)
		close(is(open("/tmp/flood", O_WRONLY | O_CREAT, 0600), "flood"));
}

static struct sockaddr_in four(int port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return at;
}

static int local(const char *name, int length, struct sockaddr_un *at)
{
	*at = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(at->sun_path, name, length);
	return offsetof(struct sockaddr_un, sun_path) + length;
}

static void sockets(void)
{
	int listener = is(socket(AF_INET6, SOCK_STREAM, 0), "socket"), no = 0;
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(4001), .sin6_addr = in6addr_any};
	setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
	is(bind(listener, (void *)&six, sizeof(six)), "bind");
	is(listen(listener, 9), "listen");
	struct sockaddr_in at = four(4001);
	is(connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&at, sizeof(at)), "TCP by IPv4");
	six.sin6_addr = in6addr_loopback;
	is(connect(socket(AF_INET6, SOCK_STREAM, 0), (void *)&six, sizeof(six)), "TCP by IPv6");
	at = four(4002);
	if (!connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&at, sizeof(at)) || errno != ECONNREFUSED)
		exit(98);
	at = four(4003);
	int datagrams = is(socket(AF_INET, SOCK_DGRAM, 0), "datagrams");
	is(sendto(datagrams, "x", 1, 0, (void *)&at, sizeof(at)), "sendto");
	at = four(4004);
	struct iovec what = {"x", 1};
	struct msghdr message = {.msg_name = &at, .msg_namelen = sizeof(at), .msg_iov = &what, .msg_iovlen = 1};
	is(sendmsg(datagrams, &message, 0), "sendmsg");
	at = four(4005);
	is(connect(datagrams, (void *)&at, sizeof(at)), "UDP");
	/* Whom that goes to was told. */
	send(datagrams, "x", 1, 0);

	struct sockaddr_un name;
	int length = local("/tmp/socket", 12, &name), by_path = is(socket(AF_UNIX, SOCK_STREAM, 0), "local");
	is(bind(by_path, (void *)&name, length), "bind by path");
	is(listen(by_path, 9), "listen");
	is(symlink("/tmp/socket", "/tmp/alias"), "symlink");
	length = local("/tmp/alias", 11, &name);
	is(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&name, length), "local");
	length = local("\0hidden", 7, &name);
	int by_name = is(socket(AF_UNIX, SOCK_STREAM, 0), "local");
	is(bind(by_name, (void *)&name, length), "bind by name");
	is(listen(by_name, 9), "listen");
	is(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&name, length), "local by name");
	length = local("/run/absent.sock", 17, &name);
	if (!connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&name, length) || errno != ENOENT)
		exit(97);
}

int main(int count, char **arguments)
{
	const char *what = count > 1 ? arguments[1] : "";
	if (!strcmp(what, "files"))
		files();
	else if (!strcmp(what, "flood"))
		flood();
	else if (!strcmp(what, "sockets"))
		sockets();
	else if (!strcmp(what, "given")) {
		struct sockaddr_un name;
		int length = local("/given.sock", 12, &name);
		is(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&name, length), "given");
	}
	else
		return 96;
	return 0;
}
