package org.elasticsearch.node;

import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.plugins.ListedPlugins;
import org.elasticsearch.plugins.PluginsLoader;
import org.elasticsearch.plugins.PluginsService;
import org.elasticsearch.transport.netty4.Netty4Plugin;

/**
 * One node out of the published jars, without the distribution around them. Arguments: its home folder, then settings as
 * name=value. It lives in this package because what makes a node can be called only from here.
 */
public final class ElasticsearchNode {
    private ElasticsearchNode() {}

    public static void main(String[] arguments) throws Exception {
        Map<String, String> settings = new HashMap<>();
        for (int index = 1; index < arguments.length; index++) {
            String[] setting = arguments[index].split("=", 2);
            settings.put(setting[0], setting[1]);
        }
        Settings.Builder builder = Settings.builder().put("path.home", Path.of(arguments[0]).toAbsolutePath().toString());
        settings.forEach(builder::put);
        String name = settings.get("node.name");
        LogConfigurator.configureESLogging();
        Environment environment =
            InternalSettingsPreparer.prepareEnvironment(builder.build(), Map.of(), null, () -> name);

        NodeServiceProvider services = new NodeServiceProvider() {
            @Override
            PluginsService newPluginService(Environment ours, PluginsLoader ignored) {
                return new ListedPlugins(ours, List.of(Netty4Plugin.class, RootPage.class));
            }
        };
        Node node = new Node(NodeConstruction.prepareConstruction(environment, ListedPlugins.none(), services, true));
        CountDownLatch ended = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception failure) {
                failure.printStackTrace();
            }
            ended.countDown();
        }));
        node.start();
        ended.await();
    }
}
