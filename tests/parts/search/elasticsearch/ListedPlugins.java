package org.elasticsearch.plugins;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.ServiceLoader;
import java.util.Set;
import org.elasticsearch.env.Environment;

/** Plugins by their classes, all of them on the class path, instead of folders below a home. */
public final class ListedPlugins extends PluginsService {
    private final List<LoadedPlugin> listed;

    public ListedPlugins(Environment environment, List<Class<? extends Plugin>> classes) {
        super(environment.settings(), environment.configDir(), none());
        List<LoadedPlugin> loaded = new ArrayList<>();
        for (Class<? extends Plugin> type : classes) {
            PluginDescriptor descriptor = new PluginDescriptor(
                type.getName(), "on the class path", "1", "8", "17", type.getName(), null, List.of(),
                false, false, false, false);
            Plugin plugin = loadPlugin(type, environment.settings(), environment.configDir());
            loaded.add(new LoadedPlugin(descriptor, plugin, type.getClassLoader()));
        }
        loadExtensions(loaded);
        listed = List.copyOf(loaded);
    }

    public static PluginsLoader none() {
        return new PluginsLoader(Set.of(), Set.of(), Map.of());
    }

    @Override
    protected List<LoadedPlugin> plugins() {
        return listed;
    }

    /** One class loader has all plugins: asked once per plugin, as is usual, it would give each provider many times. */
    @Override
    public <T> List<? extends T> loadServiceProviders(Class<T> service) {
        return ServiceLoader.load(service, getClass().getClassLoader()).stream()
            .map(provider -> make(provider.type()))
            .filter(Objects::nonNull)
            .toList();
    }

    /** Providers may want the plugin that they belong to; one whose plugin is not listed is left out. */
    private <T> T make(Class<T> type) {
        try {
            for (var constructor : type.getConstructors()) {
                Class<?>[] wanted = constructor.getParameterTypes();
                for (LoadedPlugin plugin : listed) {
                    if (wanted.length == 1 && wanted[0].isInstance(plugin.instance())) {
                        return type.cast(constructor.newInstance(plugin.instance()));
                    }
                }
            }
            return type.getConstructor().newInstance();
        } catch (ReflectiveOperationException absent) {
            return null;
        }
    }
}
